/** The queue as HTML: what waits for whom, one list, one message. Works without scripts; there are none. */
import type { MessageStatus } from '../spool/message.ts';
import { type Html, html } from '../web/html.ts';
import { historyOf } from './history.ts';
import type { QueueTools, SiteTraffic } from './queue-tools.ts';

type Overview = Awaited<ReturnType<QueueTools['overview']>>;
type Listed = Awaited<ReturnType<QueueTools['list']>>;

export function loginPage(link: string): Html {
  return html`
<p>This opens the pages of the operator in this browser for twelve hours.</p>
<form method="post" action="/login"><input type="hidden" name="t" value="${link}"><button>Log in</button></form>`;
}

export function queuePage({ queue, traffic }: Overview, now: number): Html {
  if (queue.total === 0)
    return html`<div class="verdict good"><strong>Nothing waits.</strong></div>${finder()}`;
  return html`
<p>${queue.total} recipients wait.</p>
<div class="wide"><table>
<thead><tr><th>Site</th><th>New</th><th>Deferred</th><th>Held</th><th>Scheduled</th><th>Oldest</th><th>Connections</th><th></th></tr></thead>
<tbody>${queue.sites.map(
    (site) => html`<tr>
<td><a href="/recipients?site=${encodeURIComponent(site.site)}">${site.site}</a></td>
<td>${site.states.accepted}</td><td>${site.states.deferred}</td><td>${site.states.held}</td><td>${site.states.scheduled}</td>
<td>${age(now - site.oldest)}</td>
<td>${traffic.filter((one) => one.site === site.site).map((one) => connections(one, now))}</td>
<td><form method="post" action="/flush"><input type="hidden" name="site" value="${site.site}"><button>Try all now</button></form></td></tr>`,
  )}</tbody>
</table></div>
${finder()}`;
}

function connections(
  { connections: open, limit, source, suspendedUntil, lastReply }: SiteTraffic,
  now: number,
): Html {
  if (!suspendedUntil || suspendedUntil <= now)
    return html`<div>${open} of ${limit} ${source && `(from ${source})`}</div>`;
  return html`<div>suspended for ${age(suspendedUntil - now)} ${source && `(from ${source})`}: ${lastReply}</div>`;
}

function finder(): Html {
  return html`
<h2>Find</h2>
<form class="look" action="/recipients" method="get">
<input name="did" aria-label="Member's DID" placeholder="did:plc:… (member)">
<input name="domain" aria-label="From domain" placeholder="from domain">
<input name="recipientDomain" aria-label="To domain" placeholder="to domain">
<button>List</button>
</form>`;
}

export function recipientsPage(
  { entries, cursor }: Listed,
  filters: Record<string, string>,
  now: number,
): Html {
  if (entries.length === 0 && !cursor) return html`<p>None. <a href="/">Back to the queue</a></p>`;
  return html`
<form method="post" action="/act">
<div class="wide"><table>
<thead><tr><th></th><th>Recipient</th><th>State</th><th>From</th><th>Next try</th><th>Last</th></tr></thead>
<tbody>${entries.map(
    (entry) => html`<tr>
<td><input type="checkbox" name="id" value="${entry.recipientId}" aria-label="Choose ${entry.address}"></td>
<td><a href="/messages/${entry.queueId}">${entry.address}</a></td>
<td>${entry.state}</td><td>${entry.domain}</td>
<td>${entry.nextAt === null ? '' : entry.nextAt <= now ? 'now' : `in ${age(entry.nextAt - now)}`}</td>
<td>${entry.last}</td></tr>`,
  )}</tbody>
</table></div>
<p>With those that are ticked:</p>
<div class="look">
<input name="reason" aria-label="Reason" placeholder="Why? The member reads it.">
<input name="to" aria-label="Host" placeholder="mx.example:25, for another way">
${[
  ['hold', 'Hold'],
  ['release', 'Release'],
  ['retry', 'Try now'],
  ['fail', 'Fail with a bounce'],
  ['drop', 'Drop'],
].map(([act, words]) => html`<button name="act" value="${act}">${words}</button>`)}
</div>
</form>
${cursor && html`<p><a href="/recipients?${String(new URLSearchParams({ ...filters, cursor }))}">More</a></p>`}`;
}

export function messagePage(message: MessageStatus): Html {
  return html`
<dl>
<dt>Member</dt><dd><code>${message.did}</code></dd>
<dt>From</dt><dd>${message.mailFrom || 'the null sender'} (${message.domain})</dd>
<dt>Accepted</dt><dd>${time(message.receivedAt)} by ${message.via}</dd>
<dt>Until</dt><dd>${time(message.expiresAt)}</dd>
<dt>Size</dt><dd>${message.size} octets</dd>
</dl>
${message.recipients.map(
  (recipient) => html`
<h2>${recipient.address}: ${recipient.state}</h2>
${recipient.nextAt !== null && html`<p>Next try ${time(recipient.nextAt)}.</p>`}
<ol>${historyOf(recipient).map(
    ({ at, what, said }) => html`<li>${time(at)} ${what}${said && html`<pre>${said}</pre>`}</li>`,
  )}</ol>`,
)}
<p><a href="/">Back to the queue</a></p>`;
}

function age(ms: number): string {
  const minutes = Math.max(0, Math.round(ms / 60_000));
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

function time(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
