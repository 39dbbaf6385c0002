/**
 * Decodes RFC 2047 encoded words, to see what a mail program would show.
 *
 * For judging only: nothing decoded here is ever put into a message.
 */

const encodedWord = /=\?([^?\s]{1,64})\?([bq])\?([^?\s]*)\?=/gi;

/** What cannot be decoded stays as it is. */
export function decodeWords(text: string): string {
  // RFC 2047 §6.2: blanks between two encoded words are not shown.
  return text
    .replace(/\?=\s+=\?/g, '?==?')
    .replace(encodedWord, (whole, charset: string, encoding: string, content: string) => {
      const octets =
        encoding.toLowerCase() === 'b' ? Buffer.from(content, 'base64') : quotedPrintable(content);
      return decode(octets, charset) ?? whole;
    });
}

/** The Q encoding of RFC 2047 §4.2. */
function quotedPrintable(text: string): Buffer {
  const raw = text
    .replaceAll('_', ' ')
    .replace(/=([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(raw, 'latin1');
}

function decode(octets: Buffer, charset: string): string | undefined {
  try {
    // RFC 2231 §5 lets a language follow the charset: `us-ascii*en`.
    return new TextDecoder(charset.replace(/\*.*$/, '')).decode(octets);
  } catch {
    return undefined;
  }
}
