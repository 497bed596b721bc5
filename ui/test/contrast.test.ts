// Each pair of text and ground that the pages use, in both schemes, against WCAG 2.2 AA.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const css = readFileSync(join(import.meta.dirname, '../src/style/tokens.css'), 'utf8');
const tokens = new Map(
  [...css.matchAll(/--([a-z-]+):\s*light-dark\((#[0-9a-f]{6}),\s*(#[0-9a-f]{6})\)/g)].map((m) => [m[1] ?? '', [m[2] ?? '', m[3] ?? ''] as const]),
);

function luminance(hex: string): number {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((i) => {
    const c = parseInt(hex.slice(i, i + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a: string, b: string): number {
  const [light = 0, dark = 0] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}

const GROUNDS = ['bg', 'surface', 'raised', 'hover', 'selected', 'sunken'];
const PAIRS: [string, string, number][] = [
  ...GROUNDS.flatMap((ground): [string, string, number][] => [
    ['text', ground, 4.5],
    ['muted', ground, 4.5],
    ['link', ground, 4.5],
    ['accent', ground, 4.5],
    ['bad', ground, 4.5],
  ]),
  ['on-accent', 'accent', 4.5],
  ...['ok', 'busy', 'wait', 'bad'].flatMap((tone): [string, string, number][] => [
    [tone, `${tone}-soft`, 4.5],
    ['text', `${tone}-soft`, 4.5],
    [tone, 'surface', 4.5],
  ]),
  ['accent', 'accent-soft', 4.5],
  ['edge', 'surface', 3],
  ['edge', 'bg', 3],
  ['bar-model', 'surface', 3],
  ['bar-tool', 'surface', 3],
  ['bar-box', 'surface', 3],
];

test.each(PAIRS)('%s on %s has at least %s : 1', (over, under, least) => {
  const [a, b] = [tokens.get(over), tokens.get(under)];
  expect(a, over).toBeDefined();
  expect(b, under).toBeDefined();
  expect(contrast(a?.[0] ?? '', b?.[0] ?? ''), 'light').toBeGreaterThanOrEqual(least);
  expect(contrast(a?.[1] ?? '', b?.[1] ?? ''), 'dark').toBeGreaterThanOrEqual(least);
});
