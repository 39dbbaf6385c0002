/**
 * The pages of the inbox: what came in, and one message as text.
 *
 * Everything that a message says is escaped, and its HTML is never rendered. No script, no image.
 */
import { type Html, html } from '../../node/web/html.ts';
import type { CaughtMessage } from './inbox.ts';
import { readMessage } from './readable.ts';
import type { SignatureVerdict } from './signatures.ts';

/** Rows of the list; the JSON has them all. */
const maxRows = 200;
/** Of the source, as text. */
const maxSourceBytes = 256 * 1024;

export const styles = `:root { color-scheme: light dark; --soft: light-dark(#566070, #9aa5b5); --line: light-dark(#d9dde3, #333c48);
  --good: light-dark(#1c6b3c, #7ad49c); --bad: light-dark(#9a2a1f, #f09a90) }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.4rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
thead th { color: var(--soft); font-weight: 600 }
tbody th { white-space: nowrap; font-weight: 600; overflow-wrap: normal }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); padding: .75rem; overflow-x: auto }
.pass { color: var(--good) } .fail { color: var(--bad) } .soft { color: var(--soft) }
`;

/** @param messages newest first */
export function listPage(messages: CaughtMessage[]): Html {
  const shown = messages.slice(0, maxRows);
  const rest = messages.length - shown.length;
  return page(
    'Inbox',
    html`<h1>Inbox of the sandbox</h1>
<p class="soft">All mail that the cooperatives send is caught here; nothing leaves this machine. Reload to see what is new.</p>
${
  shown.length === 0
    ? html`<p>No mail yet.</p>`
    : html`<table>
<thead><tr><th scope="col">Received</th><th scope="col">From</th><th scope="col">To</th><th scope="col">Subject</th></tr></thead>
<tbody>${shown.map(row)}</tbody>
</table>`
}
${rest > 0 && html`<p class="soft">${rest} older ones are in <a href="/api/messages">the JSON</a>.</p>`}`,
  );
}

function row(message: CaughtMessage): Html {
  return html`<tr><td>${timeOf(message)}</td><td>${message.from}</td><td>${message.to.join(', ')}</td><td><a href="/messages/${message.id}">${message.subject || '(no subject)'}</a></td></tr>
`;
}

export function messagePage(message: CaughtMessage, signatures: SignatureVerdict[]): Html {
  const { fields, text } = readMessage(message.raw);
  return page(
    message.subject || '(no subject)',
    html`<p><a href="/">Inbox</a></p>
<h1>${message.subject || '(no subject)'}</h1>
<h2>Envelope</h2>
<table><tbody>
<tr><th scope="row">MAIL FROM</th><td>&lt;${message.mailFrom}&gt;</td></tr>
<tr><th scope="row">RCPT TO</th><td>${message.to.join(', ')}</td></tr>
<tr><th scope="row">Received</th><td>${timeOf(message)}, ${message.tls ? 'over TLS' : 'without TLS'}, ${message.raw.length} bytes</td></tr>
</tbody></table>
<h2>DKIM signatures</h2>
${signatures.length === 0 ? html`<p class="fail">None.</p>` : signatureTable(signatures)}
<h2>Text</h2>
${text === undefined ? html`<p class="soft">No plain text part; see the source.</p>` : html`<pre>${text}</pre>`}
<h2>Header</h2>
<table><tbody>${fields.map(({ name, value }) => html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`)}</tbody></table>
<h2>Source</h2>
<p><a href="/api/messages/${message.id}/raw">All bytes as they came</a></p>
<pre>${message.raw.subarray(0, maxSourceBytes).toString('utf8')}</pre>`,
  );
}

function signatureTable(signatures: SignatureVerdict[]): Html {
  return html`<table>
<thead><tr><th scope="col">Result</th><th scope="col">Domain</th><th scope="col">Selector</th><th scope="col">Algorithm</th></tr></thead>
<tbody>${signatures.map(
    ({ domain, selector, algorithm, result, comment }) =>
      html`<tr><td class="${result === 'pass' ? 'pass' : 'fail'}">${result}${comment && ` (${comment})`}</td><td>${domain}</td><td>${selector}</td><td>${algorithm}</td></tr>`,
  )}</tbody>
</table>`;
}

export function notFoundPage(): Html {
  return page(
    'Not here',
    html`<h1>Not here</h1><p>The inbox keeps the newest 1,000 messages. <a href="/">Look at them.</a></p>`,
  );
}

function page(title: string, body: Html): Html {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
${body}
</body>
</html>
`;
}

function timeOf({ receivedAt }: CaughtMessage): string {
  return new Date(receivedAt).toISOString().replace('T', ' ').slice(0, 19);
}
