package deltaq;

import io.delta.storage.HadoopFileSystemLogStore;
import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
import java.util.Iterator;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;

/**
 * Puts entries into the log of a table on a local disk, each at most once, whoever else does.
 *
 * <p>Delta's own stores look whether an entry is there and then rename a file to its name, which
 * replaces what another process has put there in between. Here an entry gets its name by a hard
 * link, which the file system refuses when the name is taken. delta-rs does the same.
 */
public final class LocalLogStore extends HadoopFileSystemLogStore {

  /** Called by Delta, once for each session. */
  public LocalLogStore(Configuration conf) {
    super(conf);
  }

  /**
   * Writes a file of the log, whole and synced, or not at all.
   *
   * @throws java.nio.file.FileAlreadyExistsException it is there, and {@code overwrite} is false
   */
  @Override
  public void write(Path path, Iterator<String> lines, Boolean overwrite, Configuration conf)
      throws IOException {
    java.nio.file.Path file = local(path);
    java.nio.file.Path written = local(createTempPath(path));
    try {
      writeSynced(written, lines);
      // A checksum that Hadoop has left beside an older file would make this one unreadable.
      Files.deleteIfExists(file.resolveSibling("." + path.getName() + ".crc"));
      if (overwrite) {
        Files.move(written, file, StandardCopyOption.ATOMIC_MOVE);
      } else {
        Files.createLink(file, written);
      }
    } finally {
      Files.deleteIfExists(written);
    }
  }

  /** Tells Delta that whoever sees a file sees all of it. */
  @Override
  public Boolean isPartialWriteVisible(Path path, Configuration conf) {
    return false;
  }

  private static void writeSynced(java.nio.file.Path file, Iterator<String> lines)
      throws IOException {
    try (FileOutputStream target = new FileOutputStream(file.toFile());
        OutputStream buffer = new BufferedOutputStream(target)) {
      while (lines.hasNext()) {
        buffer.write(lines.next().getBytes(StandardCharsets.UTF_8));
        buffer.write('\n');
      }
      buffer.flush();
      target.getFD().sync();
    }
  }

  private static java.nio.file.Path local(Path path) {
    return java.nio.file.Path.of(path.toUri().getPath());
  }
}
