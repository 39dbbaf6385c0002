/**
 * Prometheus' text form 0.0.4, read strictly: what a scraper would take, and refuse.
 *
 * @returns the value of each series, by its name and labels as written
 * @throws Error for a family that comes twice, a sample outside its family, a series that comes twice
 */
export function readExposition(text: string): Map<string, number> {
  const values = new Map<string, number>();
  const families = new Set<string>();
  const told = new Set<string>();
  let family = '';
  let kind = '';
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, word, name = '', rest = ''] = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line) ?? [];
    if (word === 'HELP') {
      if (told.has(name)) throw new Error(`${name} is explained twice`);
      told.add(name);
    } else if (word === 'TYPE') {
      if (families.has(name)) throw new Error(`${name} comes twice`);
      if (!/^(counter|gauge|histogram|summary|untyped)$/.test(rest)) throw new Error(`no type: ${line}`);
      families.add(name);
      [family, kind] = [name, rest];
    } else {
      const [series, value] = sampleOf(line, family, kind);
      if (values.has(series)) throw new Error(`${series} comes twice`);
      values.set(series, value);
    }
  }
  return values;
}

const label = '[a-zA-Z_]\\w*="(?:[^"\\\\\\n]|\\\\[\\\\"n])*"';
const sample = new RegExp(`^([a-zA-Z_:][\\w:]*)(\\{${label}(?:,${label})*,?\\})? (\\S+)$`);

function sampleOf(line: string, family: string, kind: string): [series: string, value: number] {
  const [, name = '', labels = '', value = ''] = sample.exec(line) ?? [];
  if (name === '') throw new Error(`no sample: ${line}`);
  const endings = { histogram: ['_bucket', '_sum', '_count'], summary: ['', '_sum', '_count'] }[kind] ?? [''];
  if (!endings.some((ending) => name === `${family}${ending}`))
    throw new Error(`${name} stands in ${family}`);
  const number = value === '+Inf' ? Infinity : Number(value);
  if (Number.isNaN(number) && !/^nan$/i.test(value)) throw new Error(`no number: ${line}`);
  return [`${name}${labels}`, number];
}
