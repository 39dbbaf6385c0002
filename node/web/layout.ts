/** The frame of every page: head, title, navigation, foot. Works without scripts; there are none. */
import { type Html, html } from './html.ts';
import { stylePath } from './style.ts';

export type Frame = { title: string; cooperative: string; nav?: Html };

export function layout({ title, cooperative, nav }: Frame, body: Html): Html {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} · ${cooperative}</title>
<link rel="stylesheet" href="${stylePath}">
</head>
<body>
<header><a class="home" href="/">${cooperative}</a><nav>${nav}</nav></header>
<main>
<h1>${title}</h1>
${body}
</main>
<footer>Atmosphere Mail: cooperative email for atproto.</footer>
</body>
</html>
`;
}
