/**
 * Why a domain is listed, from the DNS answer to the signed record and the signed labels.
 *
 * What is not listed says only that: the reason may be private.
 */
import type { Explanation } from '../../appview/listing/listings.ts';
import { type Html, html } from './html.ts';

const kinds: Record<number, string> = {
  2: 'A cooperative’s relay',
  3: 'A member that sends through a cooperative’s relay',
  4: 'A member that sends directly',
};
const trusts = ['in its first days', 'verified', 'established', 'long established'];

export function listedPage({ listing, attestation, votes }: Explanation, apex: string | undefined): Html {
  const answer = `127.0.${listing.kind}.${listing.trust}`;
  return html`
<div class="verdict good"><strong>Vouched for.</strong> ${kinds[listing.kind]}; trust ${listing.trust} of 3 (${
    trusts[listing.trust]
  }).</div>
${
  apex &&
  html`<h2>The DNS answer</h2>
<pre>${listing.name}.dom.${apex}  A  ${answer}</pre>`
}
<h2>The attestation</h2>
<p>The account that holds this domain signed a record in its own repository.</p>
<dl>
<dt>Account</dt><dd><code>${listing.did}</code></dd>
<dt>Record</dt><dd><code>${attestation.uri}</code></dd>
<dt>Version (CID)</dt><dd><code>${attestation.cid}</code></dd>
<dt>DKIM selectors</dt><dd>${attestation.record.dkimSelectors.map((selector) => html`<code>${selector}</code> `)}</dd>
<dt>Since</dt><dd>${attestation.record.createdAt}</dd>
</dl>
<h2>Who vouches</h2>
<p>Each row is a label that a cooperative signed on that very version of the record.</p>
<table>
<thead><tr><th>Cooperative</th><th>Label</th><th>Signed</th><th>First seen here</th></tr></thead>
<tbody>${votes.map(
    (vote) =>
      html`<tr><td><code>${vote.issuer}</code></td><td>${vote.label.val}</td><td>${vote.label.cts}</td><td>${new Date(
        vote.firstSeen,
      ).toISOString()}</td></tr>`,
  )}</tbody>
</table>`;
}

export function unlistedPage(domain: string): Html {
  return html`
<div class="verdict"><strong>Not vouched for now.</strong> No cooperative that counts here answers for <code>${domain}</code>.</div>
<p>If this is your domain: publish an <code>email.atmos.attestation</code> record for it and ask a cooperative to enrol you.</p>`;
}
