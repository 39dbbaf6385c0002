/** What to do with a damaged appview.db, in the words that every place which finds damage uses. */
import { CorruptState } from './database.ts';

/** @param what is wrong: `holds a label that is none` */
export function appviewDamaged(what: string, cause?: unknown): CorruptState {
  return new CorruptState(
    `appview.db ${what}. Stop the node and delete the file: labels are read again from their issuers, ` +
      'attestations as far back as the firehose sources keep commits and, for members enrolled here, from ' +
      'their PDS. A record of others that is older stays unknown until its account writes it again.',
    { cause },
  );
}
