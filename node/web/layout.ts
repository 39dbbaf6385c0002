/** The frame of every page: head, title, navigation, foot. Works without scripts; there are none. */
import { type Html, html } from './html.ts';

export type Frame = { title: string; cooperative: string };

export function layout({ title, cooperative }: Frame, body: Html): Html {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} · ${cooperative}</title>
<link rel="stylesheet" href="/assets/style.css">
</head>
<body>
<header><a class="home" href="/">${cooperative}</a><nav><a href="/errors">Errors</a></nav></header>
<main>
<h1>${title}</h1>
${body}
</main>
<footer>Atmosphere Mail: cooperative email for atproto.</footer>
</body>
</html>
`;
}
