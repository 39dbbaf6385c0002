/** Refusals that are our own fault keep members from sending until somebody looks: the operator is told. */
import type { Notice, OperatorNotices } from './operator-notices.ts';

type Count = (what: string, reason?: string) => void;

const text = 'Members are told to try again, and nothing that was accepted is lost. The log says why.\n';
/** By the code of errors.ts, whose words promise it. */
const told: Readonly<Record<string, Notice>> = {
  STORAGE_FAILED: { subject: 'Mail is refused: it cannot be stored', text },
  SIGNING_FAILED: { subject: 'Mail is refused: it cannot be signed', text },
};

/** @param count where refusals are counted, by code. @returns the same, which also raises a notice */
export function tellingFailures(count: Count, notices: Pick<OperatorNotices, 'raise'>): Count {
  return (what, reason) => {
    count(what, reason);
    const notice = reason === undefined ? undefined : told[reason];
    if (notice) notices.raise(notice);
  };
}
