/** What the operator is told of the label streams of peers, in words that say what to do. */
import type { LabelAlerts } from '../appview/appview.ts';
import type { Notice } from './enforcement/operator-notices.ts';

/** @param raise hears of each once an hour */
export function labelAlerts(raise: (notice: Notice) => void): LabelAlerts {
  return {
    onQuarantine: (peer, reason, detail) =>
      raise({
        subject: `The labels of ${peer} are quarantined`,
        text: `The label stream of ${peer} is quarantined: ${reason}${detail === undefined ? '' : ` (${detail})`}.\n\nWhat was read before still counts, nothing new is read. Look: atmos peer show ${peer}\nGo on reading: atmos peer release ${peer}\n`,
      }),
    onKeyChange: (peer, { before, after, countsFrom }) =>
      raise({
        subject: `${peer} has another label key`,
        text: `${peer} signs its labels with another key.\n\nbefore: ${before}\nnow:    ${after}\n\nNew labels under it count from ${new Date(countsFrom).toISOString()} on. If the peer tells you that the key is its own, let them count at once: atmos peer trust-key ${peer}\n`,
      }),
    onVanished: (peer, missing, held) =>
      raise({
        subject: `${peer} serves many of its labels no more`,
        text: `${missing} of the ${held} labels that we hold of ${peer} are served there no more, without a negation. They are kept, and count. Look: atmos peer show ${peer}\nIf the peer says that they are gone for good, begin anew with it: atmos peer remove ${peer}, then atmos peer add ${peer}\n`,
      }),
  };
}
