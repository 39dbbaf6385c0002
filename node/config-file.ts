/**
 * A configuration file against its schema; which keys there are is the caller's business.
 *
 * Promise: a file that does not fit is refused with FILE:LINE:COLUMN, what is wrong there and what would be
 * right, all faults at once. An unknown key is an error, with the nearest known one. What stands at a key
 * that is called secret is never repeated. Comments and trailing commas are welcome (JSONC).
 */
import { readFileSync } from 'node:fs';
import { findNodeAtLocation, type Node, type ParseError, parseTree, printParseErrorCode } from 'jsonc-parser';
import { z } from 'zod';
import { type Hint, hints } from './config-values.ts';
import { nearest } from './nearest.ts';

/** The configuration is missing or broken. `message` has one line a fault, each FILE:LINE:COLUMN. Exit 2. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

export type Path = (string | number)[];

/** What single keys cannot show. */
export type Contradiction = [path: Path, wrong: string, right: string];

export type Checked<T> = {
  data: T;
  /** @throws ConfigError that names each at its place, when there are any */
  refuse: (found: readonly Contradiction[]) => void;
};

/** @param file absolute path, for messages; it is not read. @throws ConfigError naming every fault at once */
export function checkFile<S extends z.ZodType>(schema: S, text: string, file: string): Checked<z.output<S>> {
  const root = parse(text, file);
  const result = schema.safeParse(plainValue(root));
  if (!result.success) {
    const explained = result.error.issues.flatMap((issue) => explain(issue, { schema, root, text, file }));
    throw new ConfigError(explained.join('\n'));
  }
  return {
    data: result.data,
    refuse: (found) => {
      if (found.length === 0) return;
      const lines = found.map(
        ([path, wrong, right]) => `${place(nearestNode(root, path), text, file)}: ${wrong}. ${right}`,
      );
      throw new ConfigError(lines.join('\n'));
    },
  };
}

/** @throws ConfigError for what is no JSON */
export function hasKey(text: string, file: string, path: Path): boolean {
  return findNodeAtLocation(parse(text, file), path) !== undefined;
}

/** What stands at the key; where nothing does, what it would be in. */
function nearestNode(root: Node, path: Path): Node {
  if (path.length === 0) return root;
  return findNodeAtLocation(root, path) ?? nearestNode(root, path.slice(0, -1));
}

/** @throws ConfigError */
export function readText(file: string): string {
  try {
    // Some editors begin a file with a byte order mark.
    return readFileSync(file, 'utf8').replace(/^\uFEFF/, '');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') {
      throw new ConfigError(
        `${file}:1:1: there is no such file. Make one with \`atmos init\`, or name it with --config.`,
      );
    }
    throw new ConfigError(
      `${file}:1:1: the file cannot be read (${code}). Give this user the right to read it.`,
    );
  }
}

function parse(text: string, file: string): Node {
  const errors: ParseError[] = [];
  const root = parseTree(text, errors, { allowTrailingComma: true });
  const first = errors[0];
  if (first) {
    const where = placeOf(first.offset, text, file);
    throw new ConfigError(
      `${where}: not valid JSON here (${printParseErrorCode(first.error)}). ${advice(first)}`,
    );
  }
  if (root?.type !== 'object') {
    throw new ConfigError(`${file}:1:1: the file holds no object. It begins with { and ends with }.`);
  }
  const repeated = repeatedKeys(root).map(
    (key) => `${place(key, text, file)}: "${key.value}" stands twice. Keep one.`,
  );
  if (repeated.length > 0) throw new ConfigError(repeated.join('\n'));
  return root;
}

/** JSON would silently take the last of two. */
function repeatedKeys(node: Node): Node[] {
  const children = node.children ?? [];
  const keys = node.type === 'object' ? children.map((property) => property.children![0]!) : [];
  const repeated = keys.filter((key, i) => keys.findIndex((other) => other.value === key.value) < i);
  return [...repeated, ...children.flatMap(repeatedKeys)];
}

function advice(error: ParseError): string {
  const code = printParseErrorCode(error.error);
  if (code === 'CommaExpected') return 'Put a comma between the one before and this one.';
  if (code === 'PropertyNameExpected' || code === 'InvalidSymbol')
    return 'Put names and texts in double quotes.';
  if (code === 'CloseBraceExpected' || code === 'CloseBracketExpected') return 'A bracket is left open.';
  return 'Look at the line before it too.';
}

function plainValue(node: Node): unknown {
  if (node.type === 'array') return (node.children ?? []).map(plainValue);
  if (node.type !== 'object') return node.value;
  return Object.fromEntries(
    (node.children ?? []).map(({ children }) => [
      children![0]!.value,
      children![1] ? plainValue(children![1]) : undefined,
    ]),
  );
}

type Source = { schema: z.ZodType; root: Node; text: string; file: string };

function explain(issue: z.core.$ZodIssue, { schema, root, text, file }: Source): string[] {
  const path = issue.path as Path;
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const property = findNodeAtLocation(root, [...path, key])?.parent;
      return `${place(property ?? root, text, file)}: unknown key "${key}". ${suggestion(key, keysAt(schema, path))}`;
    });
  }
  const name = path.join('.');
  const hint = hintAt(schema, path);
  const node = findNodeAtLocation(root, path);
  if (!node) {
    const parent = findNodeAtLocation(root, path.slice(0, -1)) ?? root;
    return [`${place(parent, text, file)}: "${name}" is missing. ${rightFor(path, hint)}`];
  }
  const observed = hint?.isSecret
    ? 'what stands here'
    : text.slice(node.offset, node.offset + Math.min(node.length, 60));
  const wrong =
    issue.code === 'custom' || issue.code === 'invalid_format' ? issue.message : lowerFirst(issue.message);
  return [`${place(node, text, file)}: "${name}": ${observed} ${wrong}. ${rightFor(path, hint)}`];
}

function suggestion(key: string, known: string[]): string {
  const close = nearest(key, known);
  return close ? `Did you mean "${close}"?` : `Known here: ${known.join(', ')}.`;
}

function rightFor(path: Path, hint: Hint | undefined): string {
  if (!hint) return `See "${path[0]}" in the documentation of the configuration.`;
  return `It is ${hint.means}, for example ${hint.example}.`;
}

/** Looks through `optional` and `default` wrappers, since hints stand on the inner type. */
function unwrap(type: z.core.$ZodType): z.core.$ZodType {
  const inner = (type as { _zod: { def: { innerType?: z.core.$ZodType } } })._zod.def.innerType;
  return inner ? unwrap(inner) : type;
}

function hintOf(type: z.core.$ZodType): Hint | undefined {
  const here = hints.get(type as z.ZodType);
  if (here) return here;
  const inner = (type as { _zod: { def: { innerType?: z.core.$ZodType } } })._zod.def.innerType;
  return inner ? hintOf(inner) : undefined;
}

/** Of the key, or of the nearest above it that has one. */
function hintAt(schema: z.ZodType, path: Path): Hint | undefined {
  let type: z.core.$ZodType = schema;
  let above: Hint | undefined;
  for (const step of path) {
    const bare = unwrap(type);
    if (bare instanceof z.ZodObject) {
      const next: z.core.$ZodType | undefined = bare.shape[step];
      if (!next) return above;
      type = next;
    } else if (bare instanceof z.ZodArray) type = bare.element;
    else return above;
    above = hintOf(type) ?? above;
  }
  return above;
}

function keysAt(schema: z.ZodType, path: Path): string[] {
  let type: z.core.$ZodType = schema;
  for (const step of path) {
    const bare = unwrap(type);
    if (bare instanceof z.ZodObject) type = bare.shape[step] ?? schema;
    else if (bare instanceof z.ZodArray) type = bare.element;
    else if (bare instanceof z.ZodRecord) type = bare.valueType;
  }
  const bare = unwrap(type);
  return bare instanceof z.ZodObject ? Object.keys(bare.shape) : [];
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

function place(node: Node, text: string, file: string): string {
  return placeOf(node.offset, text, file);
}

function placeOf(offset: number, text: string, file: string): string {
  const before = text.slice(0, offset).split('\n');
  return `${file}:${before.length}:${before.at(-1)!.length + 1}`;
}
