// What the build may weigh, and what may not be in it. Fails with the file and the number.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const root = process.argv[2] ?? join(import.meta.dirname, '..');
const dist = join(root, 'dist');
const KIB = 1024;
const FIRST_JS = 110 * KIB;
const FIRST_CSS = 20 * KIB;
const LAZY_PAGE = 60 * KIB;
const WHOLE = 800 * KIB;

const problems = [];
const files = (folder) =>
  readdirSync(folder, { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? files(join(folder, e.name)) : [join(folder, e.name)]));
const gz = (file) => gzipSync(readFileSync(file), { level: 9 }).length;
const kib = (n) => `${(n / KIB).toFixed(1)} KiB`;
const check = (name, is, most) => {
  console.log(`${name.padEnd(44)} ${kib(is).padStart(10)} of ${kib(most)}`);
  if (is > most) problems.push(`${name}: ${kib(is)} is more than ${kib(most)}`);
};

/** What a module loads before it runs, and what it loads later. */
function graph(file, seen = new Set()) {
  if (seen.has(file)) return seen;
  seen.add(file);
  const text = readFileSync(join(dist, 'assets', file), 'utf8');
  for (const [, name] of text.matchAll(/(?:from|import)\s*["']\.\/([\w.$-]+\.js)["']/g)) graph(name, seen);
  return seen;
}
const lazyOf = (file) => [...readFileSync(join(dist, 'assets', file), 'utf8').matchAll(/import\(\s*["'`]\.\/([\w.$-]+\.js)["'`]\s*\)/g)].map((m) => m[1]);

const html = readFileSync(join(dist, 'index.html'), 'utf8');
const entry = /assets\/([\w.$-]+\.js)/.exec(html)?.[1];
const first = graph(entry);
check('first load, script, gzip', [...first].reduce((n, f) => n + gz(join(dist, 'assets', f)), gz(join(dist, 'theme.js'))), FIRST_JS);
check('first load, style, gzip', [...html.matchAll(/assets\/([\w.$-]+\.css)/g)].reduce((n, m) => n + gz(join(dist, 'assets', m[1])), 0), FIRST_CSS);
const css = files(dist).filter((f) => f.endsWith('.css'));
check('every style, gzip', css.reduce((n, f) => n + gz(f), 0), FIRST_CSS);
for (const page of new Set([...first].flatMap(lazyOf))) {
  const more = [...graph(page)].filter((f) => !first.has(f));
  check(`page ${page.replace(/-[\w$-]{8}\.js$/, '')}, gzip`, more.reduce((n, f) => n + gz(join(dist, 'assets', f)), 0), LAZY_PAGE);
}
check('the whole of dist', files(dist).reduce((n, f) => n + statSync(f).size, 0), WHOLE);

// What the policy forbids must not be there to be forbidden.
if (/<script(?![^>]*\bsrc=)[^>]*>|<style|\sstyle=|\son\w+=/i.test(html)) problems.push('index.html holds an inline script, style or handler');
for (const [, url] of html.matchAll(/(?:src|href)="([^"]+)"/g)) if (!url.startsWith('/')) problems.push(`index.html asks for ${url}`);
for (const file of files(join(root, 'src'))) {
  const text = readFileSync(file, 'utf8');
  const name = file.slice(root.length + 1);
  if (/\{@html\b/.test(text)) problems.push(`${name} holds {@html}`);
  if (/\binnerHTML\b|\bouterHTML\b|insertAdjacentHTML|document\.write|\beval\(|new Function\(/.test(text)) problems.push(`${name} makes HTML or code of text`);
  if (file.endsWith('.svelte') && /<[a-z][^>]*\sstyle="/i.test(text.replaceAll(/<script[\s\S]*?<\/script>/g, ''))) problems.push(`${name} holds an inline style`);
  if (/:\s*any\b|<any>|\bas any\b/.test(text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*|<!--[\s\S]*?-->/g, ''))) problems.push(`${name} holds any`);
}
for (const file of files(dist)) {
  if (!/\.(js|css)$/.test(file)) continue;
  for (const [, host] of readFileSync(file, 'utf8').matchAll(/(?:url\(|fetch\(|import\()\s*["']?https?:\/\/([\w.-]+)/g)) problems.push(`${file} asks ${host}`);
}
if (problems.length > 0) {
  console.error(problems.map((p) => `over budget: ${p}`).join('\n'));
  process.exit(1);
}
