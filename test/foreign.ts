/**
 * A command line that runs a foreign program and ends it with us, however we end.
 *
 * The kernel tells a shell when its parent dies (setpriv), and the shell passes it on: a program that changes
 * its user, as mail servers do, would lose that signal. A SIGTERM to the shell ends the program too.
 */
export function boundToUs(command: readonly string[]): [string, ...string[]] {
  return ['setpriv', '--pdeathsig', 'TERM', 'sh', '-c', script, 'sh', ...command];
}

// The first wait ends when the signal comes, the second when the program has ended.
const script = '"$@" & child=$!; trap "kill -TERM $child" TERM; wait $child; wait $child';
