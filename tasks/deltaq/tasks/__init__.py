"""The contract that client and worker share: what is on the wire, in Redis and in staging."""
