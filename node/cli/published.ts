/** Does DNS have a TXT record as it should be? Asked before a key signs: one that nobody can look up must not. */
import type { Resolver } from '../resolver.ts';

/** Blanks do not matter: some panels fold long values. */
export async function isPublished(
  resolver: Pick<Resolver, 'txt'>,
  { name, value }: { name: string; value: string },
): Promise<boolean> {
  const answer = await resolver.txt(name);
  const bare = (text: string) => text.replace(/\s/g, '');
  return answer.kind === 'found' && answer.records.some((text) => bare(text) === bare(value));
}
