package deltaq;

import io.delta.storage.HadoopFileSystemLogStore;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.security.DigestInputStream;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Iterator;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;

/**
 * Puts entries into the log of a table in S3, each at most once, whoever else does.
 *
 * <p>Delta's own store for S3 looks whether an entry is there and then puts it, which replaces what
 * another process has put there in between. Here the server decides: an entry is put with
 * If-None-Match, and refused when its name is taken. delta-rs does the same.
 */
public final class S3LogStore extends HadoopFileSystemLogStore {

  /** Called by Delta, once for each session. */
  public S3LogStore(Configuration conf) {
    super(conf);
  }

  /**
   * Writes a file of the log, whole or not at all.
   *
   * @throws FileAlreadyExistsException it is there, and {@code overwrite} is false
   */
  @Override
  public void write(Path path, Iterator<String> lines, Boolean overwrite, Configuration conf)
      throws IOException {
    FileSystem fs = path.getFileSystem(conf);
    MessageDigest written = sha256();
    FSDataOutputStream entry = overwrite ? fs.create(path, true) : createNew(fs, path);
    try {
      writeLines(lines, new DigestOutputStream(entry, written));
    } catch (Throwable failure) {
      entry.abort(); // to close it would put what there is
      throw failure;
    }
    try {
      entry.close();
    } catch (IOException failure) {
      if (overwrite || !isThere(fs, path, written.digest(), failure)) {
        throw failure;
      }
    }
  }

  /** Tells Delta that whoever sees a file sees all of it. */
  @Override
  public Boolean isPartialWriteVisible(Path path, Configuration conf) {
    return false;
  }

  private static FSDataOutputStream createNew(FileSystem fs, Path path) throws IOException {
    // "Overwrite" saves looking whether it is there; that is for the server to say, at the end.
    return (FSDataOutputStream)
        fs.createFile(path)
            .overwrite(true)
            .recursive()
            .must("fs.option.create.conditional.overwrite", true)
            .build();
  }

  private static void writeLines(Iterator<String> lines, OutputStream target) throws IOException {
    while (lines.hasNext()) {
      target.write(lines.next().getBytes(StandardCharsets.UTF_8));
      target.write('\n');
    }
  }

  /**
   * Tells whether an entry was put although the server refused it, or nobody was told.
   *
   * <p>The client repeats a put whose answer was lost, and is refused by its own entry then. And a
   * server may say "conflict" where it means that another was first.
   *
   * @throws FileAlreadyExistsException what is there is of somebody else
   */
  private static boolean isThere(FileSystem fs, Path path, byte[] written, IOException failure)
      throws IOException {
    byte[] found;
    try {
      found = digestOf(fs, path);
    } catch (FileNotFoundException nothing) {
      return false;
    } catch (IOException another) {
      failure.addSuppressed(another);
      return false;
    }
    if (!MessageDigest.isEqual(written, found)) {
      throw (IOException) new FileAlreadyExistsException(path.toString()).initCause(failure);
    }
    return true;
  }

  private static byte[] digestOf(FileSystem fs, Path path) throws IOException {
    MessageDigest read = sha256();
    try (InputStream file = new DigestInputStream(fs.open(path), read)) {
      file.transferTo(OutputStream.nullOutputStream());
    }
    return read.digest();
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException impossible) {
      throw new IllegalStateException(impossible); // every Java has it
    }
  }
}
