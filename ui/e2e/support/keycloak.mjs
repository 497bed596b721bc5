// A real Keycloak beside an installation: its own login page, its cookies, its tokens. `ops/trust/setup` fetches it; without
// it whatever needs it fails. It ends with its standard input, so it never outlives this process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { until } from './installation.mjs';

const ops = join(import.meta.dirname, '../../../ops/trust/keycloak');
/** How long it may take to be ready, and to end. */
const KEYCLOAK_MS = 300_000;
const SECRET = 'secret-of-a-browser-check';
const SECRET_REF = 'secret://keycloak/web';
const PASSWORD = 'password-of-a-browser-check';

/** The id that Keycloak has for somebody of its realm: what an administrator links. */
export const idOf = (name) => JSON.parse(readFileSync(join(ops, 'realm.json'), 'utf8')).users.find((user) => user.username === name).id;

/** An address of this machine that takes connections and answers none, until it is let go. */
export async function silence() {
  const server = createServer((socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: server.address().port,
    letGo: () => new Promise((done) => server.close(done)),
  };
}

/** What an installation is told of a Keycloak at a port. */
export const configuration = (port) =>
  `[http.oidc]\nissuer = "http://127.0.0.1:${port}/realms/custody"\nclient_id = "custody-web"\nclient_secret_ref = "${SECRET_REF}"\nlabel = "Acme"\n`;

/** Starts it at this port, with an installation's web as the place to send people back to. */
export async function keycloak(port, it) {
  const given = it.fed(SECRET, 'secret', 'set', SECRET_REF);
  if (given.code !== 0) throw new Error(`the client's secret is not taken: ${given.err}`);
  const log = join(it.home, 'keycloak.log');
  const file = openSync(log, 'a');
  const child = spawn(join(ops, 'start'), [String(port)], {
    env: {
      ...process.env,
      CUSTODY_ISSUER: 'https://custody.local/sts',
      CUSTODY_JWKS_URL: `${it.url}/.well-known/jwks.json`,
      CUSTODY_CLIENT_SECRET: SECRET,
      CUSTODY_WEB_URL: it.url,
      CUSTODY_USER_PASSWORD: PASSWORD,
    },
    stdio: ['pipe', file, file],
  });
  const ended = new Promise((done) => child.once('exit', (code, signal) => done(code ?? signal)));
  let gone = null;
  void ended.then((how) => (gone = how));
  const origin = `http://127.0.0.1:${port}`;
  const end = async () => {
    child.stdin.end();
    await until('Keycloak ends', () => gone !== null, KEYCLOAK_MS);
  };
  try {
    await until(
      'Keycloak answers',
      async () => {
        if (gone !== null) throw Object.assign(new Error(`Keycloak ended with ${gone}:\n${readFileSync(log, 'utf8').slice(-4_000)}`), { final: true });
        return (await fetch(`${origin}/realms/custody/.well-known/openid-configuration`)).ok;
      },
      KEYCLOAK_MS,
    );
  } catch (error) {
    await end();
    throw error;
  }
  return {
    origin,
    /** Somebody of its realm fills in its form, which the page must have come to. */
    async signIn(page, name) {
      await page.waitForURL((url) => url.origin === origin);
      await page.locator('#username').fill(name);
      await page.locator('#password').fill(PASSWORD);
      await page.locator('#kc-login').click();
    },
    end,
  };
}
