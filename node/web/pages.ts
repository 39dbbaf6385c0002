/**
 * The public pages: the cooperative itself, why a domain is listed, what each error means.
 *
 * They show only what the public XRPC methods also tell; no rule is decided here.
 */
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Explanation } from '../../appview/listing/listings.ts';
import { catalogue } from '../errors.ts';
import { normalizeDomain } from '../members/domain-name.ts';
import { type Html, html, textOf } from './html.ts';
import { layout } from './layout.ts';
import { listedPage, unlistedPage } from './listing-page.ts';

export type PagesOptions = {
  cooperative: { name: string; did: string; poolDomain: string; apex?: string };
  peers: () => { did: string; stance: string }[];
  /** Why a domain is vouched for; undefined where it is not, for whatever reason. */
  explain: (domain: string) => Explanation | undefined;
};

export function registerPages(app: FastifyInstance, { cooperative, peers, explain }: PagesOptions): void {
  const nav = html`<a href="/errors">Errors</a>`;
  const frame = (title: string) => ({ title, cooperative: cooperative.name, nav });
  const page = (reply: FastifyReply, title: string, body: Html) =>
    reply.type('text/html; charset=utf-8').send(textOf(layout(frame(title), body)));

  app.get('/', (_request, reply) => page(reply, cooperative.name, homePage(cooperative, peers())));
  app.get('/errors', (_request, reply) => page(reply, 'Errors', errorsPage()));
  app.get<{ Querystring: { domain?: string | string[] } }>('/listing', (request, reply) => {
    const [domain = ''] = [request.query.domain ?? []].flat();
    return reply.redirect(`/listing/${encodeURIComponent(domain.trim())}`);
  });
  app.get<{ Params: { domain: string } }>('/listing/:domain', (request, reply) => {
    // As everywhere: any case, U-labels, a final dot.
    const asked = request.params.domain.replace(/\.$/, '');
    const domain = normalizeDomain(asked) ?? asked;
    const found = explain(domain);
    if (!found) reply.code(404);
    return page(reply, domain, found ? listedPage(found, cooperative.apex) : unlistedPage(domain));
  });
  app.get('/healthz', (_request, reply) => reply.type('text/plain').send('ok\n'));
}

function homePage(cooperative: PagesOptions['cooperative'], peers: { did: string; stance: string }[]): Html {
  return html`
<p>A mail cooperative on atproto. Its members send through one relay and answer for each other.</p>
<form class="look" action="/listing" method="get">
<input name="domain" aria-label="Domain" placeholder="reef.example" required maxlength="253">
<button>Is it vouched for?</button>
</form>
<dl>
<dt>DID</dt><dd><code>${cooperative.did}</code></dd>
<dt>Pool domain</dt><dd><code>${cooperative.poolDomain}</code></dd>
${cooperative.apex && html`<dt>List</dt><dd><code>&lt;domain&gt;.dom.${cooperative.apex}</code></dd>`}
</dl>
<h2>Peers</h2>
${
  peers.length === 0
    ? html`<p>None yet.</p>`
    : html`<table>
<thead><tr><th>Cooperative</th><th>Our stance</th></tr></thead>
<tbody>${peers.map((peer) => html`<tr><td><code>${peer.did}</code></td><td>${peer.stance}</td></tr>`)}</tbody>
</table>`
}`;
}

function errorsPage(): Html {
  return html`
<p>Every error of the relay, over SMTP and over HTTP. Programs compare the code; it never changes its meaning.</p>
${Object.values(catalogue).map(
  (entry) => html`
<h2 id="${entry.docs.split('#')[1]}">${entry.code}</h2>
<p>${entry.text} ${entry.action}</p>
<p><code>HTTP ${entry.http}</code> · <code>SMTP ${entry.smtp.code} ${entry.smtp.enhanced}</code> · ${
    entry.retryable ? 'worth another try later' : 'the same request fails again'
  }</p>`,
)}`;
}
