/**
 * `/c/<token>`: the page behind the link by which the owner of an address says yes, and the letter with it.
 *
 * Promise: opening the page does nothing, since scanners of mail open every link; only its button confirms.
 * No login and no cookie: who has the token read the mail. A token that is unknown, old or used looks the same.
 */
import type { FastifyInstance, FastifyReply } from 'fastify';
import { catalogue } from '../../errors.ts';
import type { Contacts, Pending, Purpose } from '../../members/contacts.ts';
import { type Html, html, textOf } from '../../web/html.ts';
import { layout } from '../../web/layout.ts';

export type ConfirmPagesOptions = {
  contacts: Pick<Contacts, 'look' | 'confirm'>;
  /** Name of the cooperative. */
  cooperative: string;
};

/** A fastify plugin. */
export function confirmPages({ contacts, cooperative }: ConfirmPagesOptions) {
  return async (app: FastifyInstance): Promise<void> => {
    // The form of the page; what stands in it is not read.
    app.addContentTypeParser(
      'application/x-www-form-urlencoded',
      { parseAs: 'string', bodyLimit: 1024 },
      (_req, _body, done) => done(null),
    );
    const page = (reply: FastifyReply, title: string, body: Html) =>
      reply
        .type('text/html; charset=utf-8')
        .header('cache-control', 'no-store')
        .send(textOf(layout({ title, cooperative }, body)));
    const invalid = (reply: FastifyReply) =>
      page(reply.code(catalogue.LINK_INVALID.http), 'This link does nothing', invalidPage());

    app.get<Token>('/c/:token', async (req, reply) => {
      const pending = contacts.look(req.params.token);
      return pending ? page(reply, 'Is this your address?', questionPage(pending)) : invalid(reply);
    });
    app.post<Token>('/c/:token', async (req, reply) => {
      const confirmed = contacts.confirm(req.params.token);
      return confirmed ? page(reply, 'Thank you', thanksPage(confirmed)) : invalid(reply);
    });
  };
}

type Token = { Params: { token: string } };

function questionPage({ did, purpose, address, expiresAt }: Pending): Html {
  return html`
<p>The member <code>${did}</code> asks that ${whatComes(purpose)} be sent to <code>${address}</code>.</p>
<form method="post"><button>Yes, send it to this address</button></form>
<p>If you did not ask for this, close this page: nothing is sent, and the link ends on ${dateOf(expiresAt)}.</p>`;
}

function thanksPage({ purpose, address }: Pending): Html {
  return html`
<div class="verdict good"><strong>Confirmed.</strong> From now on ${whatComes(purpose)} go to <code>${address}</code>.</div>
<p>The member can name another address, or none, at any time.</p>`;
}

function invalidPage(): Html {
  const { text, action } = catalogue.LINK_INVALID;
  return html`
<div class="verdict"><strong>${text}</strong> ${action}</div>
<p>A link works once and for seven days, and a newer one takes the place of those before it. If you pressed the button before, all is done.</p>`;
}

function whatComes(purpose: Purpose): string {
  return purpose.kind === 'contact' ? 'notices about the account' : `bounces of mail from ${purpose.domain}`;
}

/** The letter that brings the link to the owner of an address. @param o.expiresAt Unix ms */
export function confirmationLetter(o: { did: string; purpose: Purpose; link: string; expiresAt: number }): {
  subject: string;
  text: string;
} {
  const what = whatComes(o.purpose);
  return {
    subject: `Please confirm: ${what}`,
    text: `Hello,

the member ${o.did} of this mail cooperative asks that ${what} be
sent to you. If you agree, open this page and press its button:

${o.link}

The link works once, until ${dateOf(o.expiresAt)}.

If you do not know what this is about, do nothing: nothing will be sent to you.
`,
  };
}

function dateOf(at: number): string {
  return new Date(at).toUTCString();
}
