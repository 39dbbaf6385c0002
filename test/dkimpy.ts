/** DKIM verified by dkimpy (Debian's python3-dkim): software that is not ours. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/**
 * stdin: JSON with messages in base64 and DNS names to TXT. Prints one line a signature: `d= a= verdict`,
 * and an empty line after each message.
 */
const program = `
import base64, json, sys, dkim
given = json.load(sys.stdin)
records = given['records']
def txt(name, timeout=5):
    value = records.get(name.decode().rstrip('.'))
    return value.encode() if value else None
for encoded in given['messages']:
    message = base64.b64decode(encoded)
    header = message.split(b'\\r\\n\\r\\n')[0]
    count = sum(1 for line in header.split(b'\\r\\n') if line.lower().startswith(b'dkim-signature:'))
    for index in range(count):
        verify = dkim.DKIM(message, minkey=1024)
        try:
            verdict = verify.verify(idx=index, dnsfunc=txt)
        except dkim.DKIMException as error:
            verdict = repr(error)
        tags = verify.signature_fields or {}
        print(tags.get(b'd', b'?').decode(), tags.get(b'a', b'?').decode(), verdict)
    print()
`;

/**
 * @param records DNS name without the final dot → joined TXT
 * @returns one `<d=> <a=> True|False|error` for each signature, sorted
 */
export async function verifyWithDkimpy(message: Buffer, records: Record<string, string>): Promise<string[]> {
  const [verdicts] = await verifyAllWithDkimpy([message], records);
  return verdicts!;
}

/** The same of many messages, in their order, by one start of Python. */
export async function verifyAllWithDkimpy(
  messages: readonly Buffer[],
  records: Record<string, string>,
): Promise<string[][]> {
  // Debian's own interpreter: another python3 in PATH does not see Debian's modules.
  const python = spawn('/usr/bin/python3', ['-c', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  const encoded = messages.map((message) => message.toString('base64'));
  python.stdin.end(JSON.stringify({ messages: encoded, records }));
  const [output, [code]] = await Promise.all([text(python.stdout), once(python, 'exit')]);
  if (code !== 0) throw new Error(`python3 ended with ${code}`);
  return output
    .split('\n\n')
    .slice(0, messages.length)
    .map((lines) => lines.trim().split('\n').sort());
}

/** The names at which the keys of a message's signatures are published. */
export function keyNames(message: Buffer): string[] {
  const header = message
    .toString('latin1')
    .split('\r\n\r\n', 1)[0]!
    .replace(/\r\n[ \t]+/g, ' ');
  const fields = header.split('\r\n').filter((line) => /^dkim-signature:/i.test(line));
  const tag = (field: string, name: string) => new RegExp(`[;:]\\s*${name}=([^;\\s]+)`).exec(field)?.[1];
  return fields.map((field) => `${tag(field, 's')}._domainkey.${tag(field, 'd')}`);
}
