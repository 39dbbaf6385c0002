/**
 * Our own labels for our own AppView, without a socket: the same log, the same frames, the same rules as
 * a peer's stream, so the consumer treats us like everyone else.
 */
import type { LabelSource } from '../../appview/labels/source.ts';
import type { IssuedLabels } from './issued-labels.ts';

export function ownLabelSource(issued: IssuedLabels): LabelSource {
  return {
    async follow(cursor, onFrame, signal) {
      if (cursor !== undefined && cursor > issued.newest) {
        await onFrame({ kind: 'error', error: 'FutureCursor' });
        return;
      }
      const from = cursor ?? issued.newest;
      if (issued.isOutdated(from)) await onFrame({ kind: 'info', name: 'OutdatedCursor' });
      for await (const frames of issued.follow(from, signal)) {
        for (const { seq, labels } of frames) {
          if (signal.aborted) return;
          await onFrame({ kind: 'labels', seq, labels });
        }
      }
    },
  };
}
