// Writes src/contracts/*.ts from contracts/NAME.vN/schema.json. `--check` writes nothing and fails when a file is stale.
// It knows the subset of JSON Schema that contracts/README.md allows, and stops at anything else rather than guess.
import { readdirSync, readFileSync, writeFileSync, existsSync, rmSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const contracts = join(here, '../../contracts');
const into = join(here, '../src/contracts');
const folder = /^([a-z-]+)\.v(\d+)$/;

const alias = (name) => name.replaceAll(/[.-]/g, '_');

function reference(ref, self, uses) {
  const match = /^(?:custody:([a-z-]+\.v\d+))?#\/\$defs\/([A-Za-z0-9]+)$/.exec(ref);
  if (!match) throw new Error(`${self}: cannot follow ${ref}`);
  if (!match[1] || match[1] === self) return match[2];
  uses.add(match[1]);
  return `${alias(match[1])}.${match[2]}`;
}

const comment = (text, indent) => (text ? `${indent}/** ${text.replaceAll('*/', '*\\/')} */\n` : '');

/** The TypeScript type of a schema, as text. */
function type(schema, self, uses, indent) {
  const go = (s) => type(s, self, uses, indent);
  if (schema === true) return 'unknown';
  if (schema.$ref) return reference(schema.$ref, self, uses);
  if ('const' in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(' | ');
  if (schema['x-tag'] && schema.allOf) {
    return schema.allOf.map((branch) => go(branch.then)).join(' | ');
  }
  const kinds = Array.isArray(schema.type) ? schema.type : schema.type ? [schema.type] : [];
  if (kinds.length > 1) {
    return kinds.map((kind) => (kind === 'null' ? 'null' : go({ ...schema, type: kind }))).join(' | ');
  }
  switch (kinds[0]) {
    case 'string':
      return 'string';
    case 'integer':
    case 'number':
      return 'number';
    case 'boolean':
      return 'boolean';
    case 'null':
      return 'null';
    case 'array':
      return `readonly ${wrap(schema.items ? go(schema.items) : 'unknown')}[]`;
    case 'object':
      return object(schema, self, uses, indent);
    default:
  }
  if (schema.allOf) {
    const parts = schema.allOf.filter((s) => s.$ref || s.type === 'object').map(go);
    if (parts.length > 0) return parts.map(wrap).join(' & ');
  }
  if (schema.oneOf ?? schema.anyOf) return (schema.oneOf ?? schema.anyOf).map((s) => wrap(go(s))).join(' | ');
  return 'unknown';
}

const wrap = (text) => (/[|&]/.test(text) && !text.startsWith('{') ? `(${text})` : text);

function object(schema, self, uses, indent) {
  const own = Object.entries(schema.properties ?? {});
  const patterns = Object.values(schema.patternProperties ?? {});
  if (own.length === 0) {
    const value = patterns.length > 0 ? patterns.map((s) => type(s, self, uses, indent)).join(' | ') : 'unknown';
    const extra = schema.additionalProperties;
    const mapped = patterns.length === 0 && typeof extra === 'object' ? type(extra, self, uses, indent) : value;
    return `{ readonly [key: string]: ${mapped} }`;
  }
  const required = new Set(schema.required ?? []);
  const inner = `${indent}  `;
  const lines = own.map(([name, s]) => {
    const key = /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
    return `${comment(s.description, inner)}${inner}readonly ${key}${required.has(name) ? '' : '?'}: ${type(s, self, uses, inner)};`;
  });
  return `{\n${lines.join('\n')}\n${indent}}`;
}

function module(name, schema) {
  const uses = new Set();
  const body = Object.entries(schema.$defs).map(
    ([shape, s]) => `${comment(s.description, '')}export type ${shape} = ${type(s, name, uses, '')};\n`,
  );
  const imports = [...uses].sort().map((u) => `import type * as ${alias(u)} from './${u}.ts';\n`);
  const text = [`// Generated from contracts/${name}/schema.json by scripts/types.mjs. Do not edit.\n`, ...imports, '\n', body.join('\n')].join('');
  // What `cargo xtask tidy` wants to read in a file that is longer than it likes.
  return text.split('\n').length > 800 ? text.replace('\n', '\n//! Long because it is one contract.\n') : text;
}

/** One line for each event of the ledger: its CloudEvents type and the shape of its data. */
function eventTypes(schema) {
  const rows = Object.entries(schema.$defs)
    .filter(([, s]) => s['x-type'])
    .map(([shape, s]) => `  ${JSON.stringify(s['x-type'])}: L.${shape};`);
  return rows;
}

const names = readdirSync(contracts).filter((n) => folder.test(n)).sort();
const files = new Map();
const newest = new Map();
for (const name of names) {
  const schema = JSON.parse(readFileSync(join(contracts, name, 'schema.json'), 'utf8'));
  files.set(`${name}.ts`, module(name, schema));
  const [, base, version] = folder.exec(name);
  if ((newest.get(base) ?? 0) < Number(version)) newest.set(base, Number(version));
}
const ledgerName = `ledger.v${newest.get('ledger')}`;
const ledger = JSON.parse(readFileSync(join(contracts, ledgerName, 'schema.json'), 'utf8'));
const rows = eventTypes(ledger);
files.set(
  'index.ts',
  [
    '// Generated by scripts/types.mjs: the newest version of each contract. Do not edit.\n',
    ...[...newest].map(([base, v]) => `export type * as ${alias(base)} from './${base}.v${v}.ts';\n`),
    `\nimport type * as L from './${ledgerName}.ts';\n`,
    '\n/** The data of each ledger event, by its CloudEvents type. */\n',
    `export interface LedgerData {\n${rows.join('\n')}\n}\n`,
  ].join(''),
);

if (process.argv.includes('--check')) {
  const stale = [...files].filter(([f, text]) => !existsSync(join(into, f)) || readFileSync(join(into, f), 'utf8') !== text);
  const extra = existsSync(into) ? readdirSync(into).filter((f) => f.endsWith('.ts') && !files.has(f)) : [];
  if (stale.length + extra.length > 0) {
    console.error(`stale: ${[...stale.map(([f]) => f), ...extra].join(', ')}\nnext: npm run types`);
    process.exit(1);
  }
  console.log(`types: ${files.size} files are what the contracts say`);
} else {
  mkdirSync(into, { recursive: true });
  for (const f of readdirSync(into)) if (f.endsWith('.ts') && !files.has(f)) rmSync(join(into, f));
  for (const [f, text] of files) writeFileSync(join(into, f), text);
  console.log(`types: wrote ${files.size} files`);
}
