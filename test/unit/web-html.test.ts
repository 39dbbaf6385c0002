import assert from 'node:assert/strict';
import { test } from 'node:test';
import { html, httpUrl, textOf } from '../../node/web/html.ts';

test('values are escaped in text and in attributes', () => {
  const evil = `"><script>alert('x')</script>&`;
  assert.equal(
    textOf(html`<a title="${evil}">${evil}</a>`),
    '<a title="&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;">' +
      '&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;</a>',
  );
});

test('nested pieces and lists are joined, nothing is shown for what is absent', () => {
  const rows = ['a', '<b>'].map((row) => html`<li>${row}</li>`);
  assert.equal(
    textOf(html`<ul>${rows}</ul>${undefined}${false}${null}${0}`),
    '<ul><li>a</li><li>&lt;b&gt;</li></ul>0',
  );
});

test('an object that only looks like a piece is not trusted', () => {
  assert.throws(() => html`${{ text: '<b>' } as never}`, TypeError);
});

for (const [url, safe] of [
  ['https://a.test/x?y=1', 'https://a.test/x?y=1'],
  ['javascript:alert(1)', '#'],
  ['data:text/html,x', '#'],
  ['no url', '#'],
] as const) {
  test(`a link to ${url} becomes ${safe}`, () => assert.equal(httpUrl(url), safe));
}
