/** The queue as HTML: what waits for whom, one list, one message. Works without scripts; there are none. */
import type { MessageStatus } from '../spool/message.ts';
import { type Html, html } from '../web/html.ts';
import { historyOf } from './history.ts';
import type { QueueTools, SiteTraffic } from './queue-tools.ts';

type Overview = Awaited<ReturnType<QueueTools['overview']>>;
type Listed = Awaited<ReturnType<QueueTools['list']>>;

export const navigation = html`<a href="/">Queue</a>
<form method="post" action="/logout"><button class="plain">Log out</button></form>`;

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

const openStates = ['accepted', 'deferred', 'held', 'scheduled'];

function finder(): Html {
  return html`
<h2>Find</h2>
<form class="look" action="/recipients" method="get">
<label>Member <input name="did" placeholder="did:plc:…"></label>
<label>API key <input name="keyId" placeholder="its id"></label>
<label>From domain <input name="domain" placeholder="reef.example"></label>
<label>To domain <input name="recipientDomain" placeholder="example.com"></label>
<label>State <select name="state"><option value="">any</option>${openStates.map((state) => html`<option>${state}</option>`)}</select></label>
<label>Older than <input name="olderThan" placeholder="30m, 2h, 3d"></label>
<button>List</button>
</form>`;
}

export function recipientsPage({ entries, cursor }: Listed, filters: URLSearchParams, now: number): Html {
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
<label>Reason <input name="reason" placeholder="Why? The member reads it."></label>
</div>
<div class="acts">
${[
  ['hold', 'Hold'],
  ['release', 'Release'],
  ['retry', 'Try now'],
  ['fail', 'Fail with a bounce'],
  ['drop', 'Drop'],
].map(([act, words]) => html`<button name="act" value="${act}">${words}</button>`)}
</div>
<div class="look">
<label>Another way <input name="to" placeholder="mx.example:25; empty for what DNS names"></label>
<button name="act" value="reroute">Reroute</button>
</div>
</form>
${cursor && html`<p><a href="/recipients?${withCursor(filters, cursor)}">More</a></p>`}`;
}

function withCursor(filters: URLSearchParams, cursor: string): string {
  const query = new URLSearchParams(filters);
  query.set('cursor', cursor);
  return String(query);
}

export function messagePage(message: MessageStatus, now: number): Html {
  return html`
<dl>
<dt>Member</dt><dd><code>${message.did}</code></dd>
${message.subject && html`<dt>Subject</dt><dd>${message.subject}</dd>`}
${message.category && html`<dt>Category</dt><dd>${message.category}</dd>`}
<dt>From</dt><dd>${message.mailFrom || 'the null sender'} (${message.domain})</dd>
<dt>Accepted</dt><dd>${time(message.receivedAt)} by ${message.via}</dd>
<dt>Until</dt><dd>${time(message.expiresAt)}</dd>
<dt>Size</dt><dd>${message.size} octets</dd>
</dl>
${message.recipients.map(
  (recipient) => html`
<h2>${recipient.address}: ${recipient.state}</h2>
${recipient.nextAt !== null && html`<p>Next try ${recipient.nextAt <= now ? 'now' : time(recipient.nextAt)}.</p>`}
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
