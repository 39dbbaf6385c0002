/** What the control socket knows of the list server; a node and `atmos dns` alone answer alike. */
import type { FastifyPluginAsync } from 'fastify';
import type { FeedStatus } from '../dnsbl/feed/feed.ts';
import type { Exported } from '../dnsbl/files/export.ts';

export type DnsStatus = {
  apex: string;
  entries: number;
  serial: number;
  /** Of what is answered: since the files were written, or the feed was last known to be current. */
  ageSeconds: number | undefined;
  feed?: FeedStatus;
};

export type DnsTools = {
  /** One for each zone. */
  status: () => DnsStatus[];
  /** @throws Error when there is nowhere to export to, or the disk refuses */
  export: () => Promise<Exported[]>;
  /** @returns false when the files could not be read and the old entries stay */
  reload: () => Promise<boolean>;
};

export function dnsControl(tools: DnsTools): FastifyPluginAsync {
  return async (app) => {
    app.get('/dns/status', () => ({ zones: tools.status() }));
    // An Error's text is for the operator, who is the only one that can connect.
    app.post('/dns/export', () =>
      tools.export().then(
        (exported) => ({ exported }),
        (error: Error) => ({ failed: error.message }),
      ),
    );
    app.post('/dns/reload', async () => ({ reloaded: await tools.reload() }));
  };
}
