// An upstream MCP server with one tool, `send`, that keeps what it was asked to send. In a thread of its own: a command that
// a test waits for may ask it.
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const TOOL = {
  name: 'send',
  description: 'Sends a mail.',
  inputSchema: { type: 'object', properties: { to: { type: 'string' }, text: { type: 'string' } }, required: ['to', 'text'], additionalProperties: false },
};
const DOCUMENT = { name: 'mail__send', scope: 'mail:send', grant: 'gate', transport: 'mcp', mcp_server: 'mail', barriers: [], effect: 'irreversible', idempotent: false, constraints: [] };

export async function mailServer() {
  const home = mkdtempSync(join(tmpdir(), 'cmail'));
  const [book, document] = [join(home, 'sent.jsonl'), join(home, 'mail-send.json')];
  writeFileSync(book, '');
  writeFileSync(document, JSON.stringify(DOCUMENT));
  const worker = new Worker(new URL(import.meta.url), { workerData: { book } });
  const port = await new Promise((done, failed) => {
    worker.once('message', done);
    worker.once('error', failed);
  });
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    /** The tool's document: a call of it waits for a person. */
    document,
    sent: () => readFileSync(book, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)),
    async close() {
      await worker.terminate();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

if (!isMainThread && workerData?.book) {
  const server = createServer((request, response) => {
    const chunks = [];
    request.on('data', (c) => chunks.push(c));
    request.on('end', () => {
      const { id, method, params } = JSON.parse(Buffer.concat(chunks).toString('utf8'));
      if (id === undefined) return response.writeHead(202).end();
      if (method === 'tools/call') appendFileSync(workerData.book, `${JSON.stringify(params.arguments)}\n`);
      const result = { initialize: { protocolVersion: '2025-06-18', capabilities: {} }, 'tools/list': { tools: [TOOL] }, 'tools/call': { content: [{ type: 'text', text: 'sent' }], isError: false } }[method] ?? {};
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ jsonrpc: '2.0', id, result }));
    });
  });
  server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port));
}
