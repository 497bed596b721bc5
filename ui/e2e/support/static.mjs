// The built page with the server's own policy, where a test needs no server behind it.
import { createReadStream, existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const dist = join(import.meta.dirname, '../../dist');
const TYPES = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', html: 'text/html', webmanifest: 'application/manifest+json', json: 'application/json' };
/** The same as crates/http/src/guard.rs; its own test holds the server to it. */
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html";

export async function serve() {
  const server = createServer((request, response) => {
    const path = new URL(request.url, 'http://x').pathname;
    const file = /^\/(assets\/[\w.-]+|[\w-]+\.[a-z]+)$/.test(path) && existsSync(join(dist, path)) ? path : '/index.html';
    response.writeHead(200, { 'content-type': TYPES[file.split('.').pop()] ?? 'text/plain', 'content-security-policy': POLICY });
    createReadStream(join(dist, file)).pipe(response);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => new Promise((done) => { server.closeAllConnections(); server.close(done); }) };
}
