/** What dig says of several questions to one server, as one form in which two servers can be compared. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

export type Said = {
  /** Opcode and status; or what dig says in place of an answer. */
  status: string;
  flags: string;
  /** Version, flags and size; absent without OPT. */
  edns: string | undefined;
  nsid: string | undefined;
  /** Lines in order of the alphabet, blanks made one. */
  question: string[];
  answer: string[];
  authority: string[];
  additional: string[];
};

/** @param questions each a name, a type, and a class where it is not IN. @param host that listens on `port` */
export async function dig(
  port: number,
  flags: readonly string[],
  questions: readonly (readonly string[])[],
  host = '127.0.0.1',
): Promise<Said[]> {
  const to = [`@${host}`, '-p', `${port}`, '+tries=1', '+time=5', '+qr', '+nocmd', '+noidnin', ...flags];
  // What goes before the first name is for all of them.
  const words = questions.flatMap(([name, type, recordClass = 'IN']) => [
    ...['-q', name!, '-t', type!, '-c', recordClass],
  ]);
  const { stdout } = await run('dig', [...to, ...words], { maxBuffer: 1 << 24 });
  const parts = stdout.split(/^;; Sending:$/m).slice(1);
  if (parts.length !== questions.length)
    throw new Error(`${parts.length} of ${questions.length}:\n${stdout}`);
  return parts.map(saidOf);
}

function saidOf(text: string): Said {
  const answered = text.split(/^;; Got answer:$/m)[1];
  if (answered === undefined) {
    const reason = /^;; (?!QUERY|Sending)(.*)$|^; Transfer failed/m.exec(text);
    return { status: reason?.[0] ?? text, ...nothing() };
  }
  const status = /opcode: (\S+), status: (\S+),/.exec(answered)!;
  return {
    status: `${status[1]} ${status[2]}`,
    flags: /^;; flags: ([^;]*);/m.exec(answered)![1]!,
    edns: /^; EDNS: (.*)$/m.exec(answered)?.[1],
    nsid: /^; NSID: .*\("?([^")]*)"?\)/m.exec(answered)?.[1],
    question: section(answered, 'QUESTION'),
    answer: section(answered, 'ANSWER'),
    authority: section(answered, 'AUTHORITY'),
    additional: section(answered, 'ADDITIONAL'),
  };
}

function nothing(): Omit<Said, 'status'> {
  const none = { question: [], answer: [], authority: [], additional: [] };
  return { flags: '', edns: undefined, nsid: undefined, ...none };
}

function section(text: string, name: string): string[] {
  const found = new RegExp(`^;; ${name} SECTION:\\n((?:.+\\n)*)`, 'm').exec(text);
  const lines = found?.[1]?.trim().split('\n') ?? [];
  return lines.map((line) => line.replace(/\s+/g, ' ')).sort();
}
