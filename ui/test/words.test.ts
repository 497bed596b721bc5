// What a person is told to run is a command that there is, as the help of the built binary has it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { PROBLEM } from '../src/words.ts';

const help = readFileSync(join(import.meta.dirname, '../../crates/cli/tests/golden/help.txt'), 'utf8');
const commands = new Set([...help.matchAll(/^\$ custody ([a-z][a-z -]*) --help$/gm)].map((m) => m[1] ?? ''));
const hasParts = (name: string) => [...commands].some((command) => command.startsWith(`${name} `));

test('each command that an error names exists', () => {
  const named = Object.values(PROBLEM).flatMap((text) => [...text.matchAll(/\bcustody ([a-z]+)(?: ([a-z-]+))?/g)]);
  expect(named.length).toBeGreaterThan(0);
  for (const [text, name = '', part = ''] of named) {
    expect(commands, text).toContain(hasParts(name) ? `${name} ${part}` : name);
  }
});
