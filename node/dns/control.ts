/** What the control socket knows of the list server; a node and `atmos dns` alone answer alike. */
import type { FastifyPluginAsync } from 'fastify';
import type { FeedStatus } from '../../dnsbl/feed/feed.ts';
import type { Exported } from '../../dnsbl/files/export.ts';

export type DnsStatus = {
  apex: string;
  entries: number;
  serial: number;
  /**
   * Of what is answered: since the files were written, or the feed was last known to be current; undefined
   * where a node's own AppView fills the zone.
   */
  ageSeconds: number | undefined;
  feed?: FeedStatus;
};

export type DnsTools = {
  /** One for each zone. */
  status: () => DnsStatus[];
  /** @throws Error when there is nowhere to export to, or the disk refuses */
  export: () => Promise<Exported[]>;
  /** Settings that may change while answering, and files. @throws Error; what could not be read stays as it was */
  reload: () => Promise<void>;
};

export function dnsControl(tools: DnsTools): FastifyPluginAsync {
  return async (app) => {
    app.get('/dns/status', () => ({ zones: tools.status() }));
    app.post('/dns/export', () => told(tools.export().then((exported) => ({ exported }))));
    app.post('/dns/reload', () => told(tools.reload().then(() => ({ reloaded: true }))));
  };
}

/** An Error's text is for the operator, who is the only one that can connect. */
function told<T>(done: Promise<T>): Promise<T | { failed: string }> {
  return done.catch((error: Error) => ({ failed: error.message }));
}
