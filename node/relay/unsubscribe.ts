/**
 * The page behind a link to unsubscribe, and the call that mail programs make by themselves (RFC 8058).
 *
 * Promise: looking does nothing, since programs follow links in mail; the POST does it, without login or
 * cookie, and again and again with the same answer. A made-up token costs one decryption and no row.
 */
import type { FastifyInstance, FastifyPluginAsync, FastifyReply } from 'fastify';
import type { Event } from '../enforcement/events.ts';
import type { NewSuppression } from '../members/suppressions.ts';
import { type Html, html, textOf } from '../web/html.ts';
import { layout } from '../web/layout.ts';
import type { UnsubscribeLinks, Unsubscription } from './unsubscribe-links.ts';

export { UnsubscribeLinks } from './unsubscribe-links.ts';

/** The event log gives it its id and its time. */
export type UnsubscribeEvent = Pick<Event, 'did' | 'domain' | 'messageId' | 'recipientId' | 'detail'> & {
  type: 'unsubscribe';
};

export type UnsubscribeOptions = {
  links: Pick<UnsubscribeLinks, 'read'>;
  suppressions: {
    has(did: string, address: string, reason: 'unsubscribe'): boolean;
    add(suppression: NewSuppression): void;
  };
  /** Into the event log, in one commit with the change; called once for each new entry on the list. */
  record: (event: UnsubscribeEvent, change: () => void) => void;
  /** That sent the message; undefined when that is not known any more. */
  domainOf: (messageId: string) => Promise<string | undefined>;
  /** The domains of a member, for the reader of the page. */
  domainsOf: (did: string) => readonly string[];
  /** The name of the cooperative. */
  cooperative: string;
  /** Its recipients are no people: a link of theirs answers, and changes nothing. */
  simulatorDomain: string;
  count: (what: string, reason?: string) => void;
};

/** A form of one field; mailbox providers send it as multipart too. */
const maxBodyBytes = 16 * 1024;

export function unsubscribeRoutes(o: UnsubscribeOptions): FastifyPluginAsync {
  return async (app: FastifyInstance) => {
    // RFC 8058 §3.2: whoever posts here has decided. The body tells nothing new, so it is not even read.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: maxBodyBytes }, (_request, _body, done) =>
      done(null),
    );
    const page = (reply: FastifyReply, title: string, body: Html) =>
      reply
        .type('text/html; charset=utf-8')
        .headers(privately)
        .send(textOf(layout({ title, cooperative: o.cooperative }, body)));

    // A wildcard, because a named parameter may not be longer than 100 characters.
    app.get<{ Params: { '*': string } }>('/u/*', (request, reply) => {
      const who = o.links.read(request.params['*']);
      if (!who) return page(reply.code(404), invalidTitle, invalidPage);
      return isDone(o, who)
        ? page(reply, doneTitle, donePage(o, who))
        : page(reply, askTitle, askPage(o, who));
    });
    app.post<{ Params: { '*': string } }>('/u/*', async (request, reply) => {
      const who = o.links.read(request.params['*']);
      if (!who) {
        o.count('unsubscribe_refused');
        return page(reply.code(404), invalidTitle, invalidPage);
      }
      await unsubscribe(o, who);
      return page(reply, doneTitle, donePage(o, who));
    });
  };
}

/** The address of such a page is a key: no cache keeps it, no other site and no search engine learns it. */
const privately = {
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
  'x-robots-tag': 'noindex, nofollow',
};

async function unsubscribe(o: UnsubscribeOptions, who: Unsubscription): Promise<void> {
  if (isSimulated(o, who)) return;
  o.count('unsubscribes');
  if (isDone(o, who)) return;
  const { did, address, recipientId } = who;
  const messageId = recipientId.split('.', 1)[0]!;
  const domain = await o.domainOf(messageId).catch(() => undefined);
  // Asked again: somebody may have pressed twice.
  if (isDone(o, who)) return;
  const evidence = 'The recipient followed the link to unsubscribe.';
  const about = { did, ...(domain !== undefined && { domain }), messageId, recipientId };
  o.record({ type: 'unsubscribe', ...about, detail: { recipient: address } }, () =>
    o.suppressions.add({ did, address, reason: 'unsubscribe', evidence, messageId }),
  );
}

function isDone({ suppressions }: UnsubscribeOptions, { did, address }: Unsubscription): boolean {
  return suppressions.has(did, address, 'unsubscribe');
}

function isSimulated({ simulatorDomain }: UnsubscribeOptions, { address }: Unsubscription): boolean {
  return address.slice(address.lastIndexOf('@') + 1).toLowerCase() === simulatorDomain;
}

const askTitle = 'Unsubscribe';
const doneTitle = 'You are unsubscribed';
const invalidTitle = 'This link does not work';

function askPage(o: UnsubscribeOptions, who: Unsubscription): Html {
  return html`
<p>Shall <strong>${senderOf(o, who)}</strong> stop sending newsletters and other bulk mail to
<strong>${masked(who.address)}</strong>?</p>
<form method="post">
<input type="hidden" name="List-Unsubscribe" value="One-Click">
<button>Unsubscribe</button>
</form>
<p>Mail that you ask for yourself, such as a link to log in, still comes.</p>`;
}

function donePage(o: UnsubscribeOptions, who: Unsubscription): Html {
  return html`
<p><strong>${senderOf(o, who)}</strong> sends no more newsletters and other bulk mail to
<strong>${masked(who.address)}</strong>. What is already on its way may still arrive.</p>
<p>You can close this page.</p>`;
}

const invalidPage = html`
<p>It may have been cut off on its way. Try the link in the mail again, or copy the whole of it.</p>`;

function senderOf({ domainsOf }: UnsubscribeOptions, { did }: Unsubscription): string {
  return domainsOf(did).join(', ') || 'This sender';
}

/** `r•••@example.com`: mail is forwarded and archived with its links, so the page tells no stranger an address. */
function masked(address: string): string {
  const at = address.lastIndexOf('@');
  return `${[...address][0]}•••${address.slice(at)}`;
}
