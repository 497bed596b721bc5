// The lexer in pieces gives what it gives at once, and links lead only where they may.
import { expect, test } from 'vitest';
import { EMPTY, lex, target } from '../src/markdown/lex.ts';

const TEXT = `# Q3

Revenue was **4.2 M**, up 6 %.

- one
- two
  - deeper

\`\`\`rust
fn main() {}
\`\`\`

| a | b |
|---|---|
| 1 | 2 |

> quoted

<script>alert(1)</script>

Done.
`;

const shape = (tokens: readonly { type: string; raw: string }[]) => tokens.map((t) => [t.type, t.raw]);

test('words that come in pieces end as the same blocks', () => {
  const whole = lex(TEXT);
  for (const size of [1, 3, 7, 40]) {
    let lexed = EMPTY;
    for (let i = 0; i < TEXT.length; i += size) lexed = lex(TEXT.slice(0, Math.min(TEXT.length, i + size)), lexed);
    expect(shape(lexed.tokens)).toEqual(shape(whole.tokens));
  }
});

test('a block that did not change keeps its object', () => {
  const one = lex('first\n\nsecond\n\nthird\n\nfour');
  const two = lex('first\n\nsecond\n\nthird\n\nfourth', one);
  expect(two.tokens[0]).toBe(one.tokens[0]);
  expect(two.tokens.at(-1)).not.toBe(one.tokens.at(-1));
});

test.each([
  ['https://example.org/a', 'https://example.org/a'],
  ['mailto:a@b.test', 'mailto:a@b.test'],
  ['javascript:alert(1)', null],
  ['JaVaScRiPt:alert(1)', null],
  ['data:text/html,x', null],
  ['vbscript:x', null],
  ['//evil.test/x', null],
  ['/relative', null],
  ['', null],
])('a link to %s leads to %s', (href, to) => {
  expect(target(href)?.href ?? null).toBe(to);
});
