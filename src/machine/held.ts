// What is held open for one look.

/**
 * Looks at what was opened just now (a process, a directory, a connection), and closes it whatever happens. For what
 * does not wait: what a promise stands for would find it closed.
 */
export function withHeld<Held extends { close(): void }, T>(held: Held, look: (held: Held) => T): T {
  try {
    return look(held);
  } finally {
    held.close();
  }
}
