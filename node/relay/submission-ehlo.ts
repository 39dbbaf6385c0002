/**
 * The answer to EHLO: what a session may use, as one text.
 *
 * smtp-server makes the list anew each time and cleans it line by line, which took 12 µs of a session twice.
 */

export type Served = {
  hostname: string;
  maxMessageBytes: number;
  isSecure: boolean;
  isLoggedIn: boolean;
};

const always = '250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n';
/** smtp-server's own limit, with which it refuses. */
const maxName = 300;

export function ehloAnswer({ hostname, maxMessageBytes, isSecure, isLoggedIn }: Served): string {
  // RFC 4954 §4: PLAIN is not offered in the clear, or a hasty client sends its key there.
  const login = isSecure && !isLoggedIn ? '250-AUTH PLAIN LOGIN\r\n' : '';
  const tls = isSecure ? '250-REQUIRETLS\r\n' : '250-STARTTLS\r\n';
  return `250-${hostname}\r\n${always}${login}${tls}250 SIZE ${maxMessageBytes}\r\n`;
}

/** @returns what the client calls itself, in lower case; undefined for what is not one word of printable characters */
export function ehloName(line: Buffer): string | undefined {
  const words = line.toString().trim().split(/\s+/);
  const name = words[1] ?? '';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const isRight = words.length === 2 && name.length <= maxName && !/[\u0000-\u001f\u007f-\u009f]/.test(name);
  return isRight ? name.toLowerCase() : undefined;
}
