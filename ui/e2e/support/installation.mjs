// One installation for one test file: the built binary with NATS and Docker, a scripted model, a folder of its own. It
// is ended by the handle of its process, also when a test fails.
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { model } from './model.mjs';

const cache = process.env.CUSTODY_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(process.env.HOME ?? '/root', '.cache'), 'custody');
const binary = process.env.CUSTODY_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(cache, 'target'), 'debug/custody');
const READY_MS = 90_000;
const STOP_MS = 60_000;

/** Waits until `look` gives something; what it waited for is in the error. */
export async function until(what, look, ms = 60_000) {
  const end = Date.now() + ms;
  let last;
  for (;;) {
    try {
      const found = await look();
      if (found) return found;
    } catch (error) {
      if (error.final) throw error;
      last = error;
    }
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}${last ? ` (${last.message})` : ''}`);
    await new Promise((next) => setTimeout(next, 50));
  }
}

/** `local`: the model of this machine instead of the scripted one. */
export async function installation({ config = '', documents = {}, script = {}, local = false } = {}) {
  if (!existsSync(binary)) throw new Error(`there is no ${binary}; run: cargo build -p custody-cli`);
  // Sockets may have 107 bytes of path.
  const home = mkdtempSync(join(tmpdir(), 'cui'));
  mkdirSync(join(home, 'runners'));
  for (const name of ['custody-agent']) {
    const file = `${name}.runner.json`;
    const from = join(cache, 'runners', file);
    if (!existsSync(from)) throw new Error(`there is no ${from}; run: cargo xtask image ${name} --load`);
    copyFileSync(from, join(home, 'runners', file));
  }
  // What is embedded is what is tested; those who work on a page may serve its folder instead.
  const folder = process.env.CUSTODY_UI_FOLDER;
  const ui = folder === undefined ? '' : `ui = ${JSON.stringify(folder)}\n`;
  writeFileSync(join(home, 'config.toml'), `[http]\nlisten = "127.0.0.1:0"\n${ui}${config}`);
  const upstream = await model(join(home, 'model.sock'), documents, script);
  const env = {
    PATH: process.env.PATH,
    HOME: home,
    USER: 'tester',
    CUSTODY_LOG: process.env.CUSTODY_LOG ?? 'warn',
    CUSTODY_CACHE: cache,
    CUSTODY_NATS_SERVER: process.env.CUSTODY_NATS_SERVER ?? join(cache, 'bin/nats-server'),
    CUSTODY_RUNNERS: join(home, 'runners'),
    CUSTODY_LOCAL_MODEL: process.env.CUSTODY_LOCAL_MODEL ?? join(cache, 'bin/custody-local-model'),
    ...(process.env.DOCKER_HOST ? { DOCKER_HOST: process.env.DOCKER_HOST } : {}),
  };
  const global = ['--state', join(home, 's'), '--config', join(home, 'config.toml')];
  const command = (args, input) => {
    const ran = spawnSync(binary, [...args, ...global], { env, cwd: home, encoding: 'utf8', timeout: 120_000, input });
    return { code: ran.status, out: ran.stdout, err: ran.stderr };
  };
  let child = null;
  let said = '';
  const it = {
    home,
    model: upstream,
    url: '',
    key: '',
    subject: '',
    /** Runs a command on this installation to its end. */
    custody: (...args) => command(args),
    /** The same, with this text on its standard input. */
    fed: (text, ...args) => command(args, text),
    json(...args) {
      const ran = it.custody(...args, '-o', 'json');
      if (ran.code !== 0) throw new Error(`custody ${args.join(' ')} ended with ${ran.code}: ${ran.err}`);
      return JSON.parse(ran.out);
    },
    async up() {
      said = '';
      child = spawn(binary, ['up', ...global, ...(local ? [] : ['--model-url', upstream.url])], { env, cwd: home, stdio: ['ignore', 'pipe', openSync(join(home, 'up.err'), 'a')] });
      child.stdout.on('data', (chunk) => (said += chunk));
      let ended = null;
      child.once('exit', (code, signal) => (ended = `${code ?? signal}`));
      it.url = await until(
        'custody up prints its address',
        () => {
          if (ended !== null) throw Object.assign(new Error(`custody up ended with ${ended}:\n${said}\n${it.log()}`), { final: true });
          return /(http:\/\/127\.0\.0\.1:\d+)/.exec(said)?.[1];
        },
        READY_MS,
      );
      const first = /admin key of (\S+), shown only now: (\S+)/.exec(said);
      if (first) [, it.subject, it.key] = first;
    },
    log: () => readFileSync(join(home, 'up.err'), 'utf8').slice(-4_000),
    /** Ends the process; by force it has no time for a last word. */
    async down(signal = 'SIGTERM') {
      const mine = child;
      child = null;
      if (!mine || mine.exitCode !== null || mine.signalCode !== null) return;
      const gone = new Promise((done) => mine.once('exit', done));
      mine.kill(signal);
      const late = setTimeout(() => mine.kill('SIGKILL'), STOP_MS);
      await gone;
      clearTimeout(late);
    },
    /** The process id of this installation's own nats-server, as it says it itself. */
    natsPid: () => it.json('status').nats_pid,
    async end() {
      await it.down();
      // Whatever a killed server left.
      await upstream.close();
      rmSync(home, { recursive: true, force: true });
    },
  };
  try {
    await it.up();
  } catch (error) {
    await it.end();
    throw error;
  }
  return it;
}
