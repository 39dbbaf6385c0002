/**
 * The configuration of the labeler before this one, as far as it has a place here.
 *
 * Its signing key is 32 bytes in hex in a file of their own: imported, the `did:key` is the same, and labels that
 * it signed stay good. What has no place here is named, not dropped quietly.
 */
import { dirname, isAbsolute, join } from 'node:path';
import { type ParseError, parse, printParseErrorCode } from 'jsonc-parser';

/** `left`: what has no place here, and why. */
export type Original = {
  /** Absolute. */
  signingKeyFile: string;
  /** `host:port` for `listen.web`. */
  listenWeb?: string;
  /** As our configuration writes it. */
  reverifyInterval?: string;
  left: { key: string; why: string }[];
};

const whyLeft: Record<string, string> = {
  stateDir: 'its database is not read: verifications and labels are made anew',
  jetstreamURL: 'a Jetstream is not signed: the firehose itself is read ("firehose")',
};

/**
 * @param file absolute path; it is not read
 * @throws Error naming what is wrong
 */
export function readOriginal(text: string, file: string): Original {
  const values = objectOf(text, file);
  const { listenAddr, reverifyInterval, signingKeyPath = './state/signing.key', ...rest } = values;
  const keyPath = textOf(signingKeyPath, 'signingKeyPath', file);
  return {
    signingKeyFile: isAbsolute(keyPath) ? keyPath : join(dirname(file), keyPath),
    ...(listenAddr !== undefined && { listenWeb: hostPortOf(textOf(listenAddr, 'listenAddr', file), file) }),
    ...(reverifyInterval !== undefined && {
      reverifyInterval: durationOf(textOf(reverifyInterval, 'reverifyInterval', file), file),
    }),
    left: Object.keys(rest).map((key) => ({ key, why: whyLeft[key] ?? 'nothing here has this name' })),
  };
}

function objectOf(text: string, file: string): Record<string, unknown> {
  const errors: ParseError[] = [];
  const value = parse(text.replace(/^\uFEFF/, ''), errors, { allowTrailingComma: true }) as unknown;
  const [first] = errors;
  if (first) throw new Error(`${file}: not valid JSON (${printParseErrorCode(first.error)})`);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error(`${file} holds no object`);
  return value as Record<string, unknown>;
}

function textOf(value: unknown, key: string, file: string): string {
  if (typeof value !== 'string' || value === '') throw new Error(`${file}: "${key}" is no text`);
  return value;
}

/** Go's `:8081` is every address. */
function hostPortOf(text: string, file: string): string {
  const match = /^(.*):(\d{1,5})$/.exec(text);
  if (!match) throw new Error(`${file}: "listenAddr": ${text} is no address such as :8081`);
  return `${match[1] || '0.0.0.0'}:${match[2]}`;
}

const seconds = { h: 3600, m: 60, s: 1 };

/** Go writes `24h`, `1h30m0s`; we, one number and one unit. */
function durationOf(text: string, file: string): string {
  const parts = [...text.matchAll(/(\d+)([hms])/g)];
  const total = parts.reduce(
    (sum, [, n, unit]) => sum + Number(n) * seconds[unit as keyof typeof seconds],
    0,
  );
  if (total === 0 || parts.map(([part]) => part).join('') !== text)
    throw new Error(`${file}: "reverifyInterval": ${text} is no time such as 24h`);
  const unit = (['h', 'm', 's'] as const).find((one) => total % seconds[one] === 0)!;
  return `${total / seconds[unit]}${unit}`;
}
