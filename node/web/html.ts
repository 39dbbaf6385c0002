/**
 * HTML from tagged templates: every value is escaped unless it is itself made by this tag.
 *
 * There is no way to pass raw markup in. Values stand in text or in double-quoted attributes only;
 * a URL taken from outside goes through `httpUrl` first.
 */

const brand = Symbol('html');

export type Html = { readonly [brand]: string };

type Value = Html | string | number | false | null | undefined | readonly Value[];

export function html(parts: TemplateStringsArray, ...values: Value[]): Html {
  const text = parts.reduce((sum, part, i) => sum + render(values[i - 1]) + part);
  return { [brand]: text };
}

/** The finished document as text. */
export function textOf(page: Html): string {
  return page[brand];
}

/** The URL if it is http or https, else `#`: a `javascript:` URL from a record must not become a link. */
export function httpUrl(text: string): string {
  if (!URL.canParse(text)) return '#';
  const { protocol, href } = new URL(text);
  return protocol === 'http:' || protocol === 'https:' ? href : '#';
}

function render(value: Value): string {
  if (value === false || value === null || value === undefined) return '';
  if (Array.isArray(value)) return value.map(render).join('');
  if (typeof value === 'object') {
    if (brand in value) return value[brand];
    throw new TypeError('only text, numbers and pieces made by the html tag can stand in a page');
  }
  return String(value).replace(/[&<>"']/g, (char) => entities[char]!);
}

const entities: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
