// A model that does what the prompt says, over the format of OpenAI's chat completions. Deterministic: no clock decides
// what it says, and a test releases what it holds.
//
//   [[say TEXT]]            says TEXT
//   [[words N MS]]          says w1 … wN, one every MS milliseconds
//   [[hold]]                says the first half, waits for release(), says the rest
//   [[tool NAME JSON]]      calls a tool first, then says "The tool answered."
//   [[doc NAME]]            says a document that the test gave
//   [[hang]]                never answers
//   a prompt of the script  the steps that the test gave, each with words, a tool call, and how long it thinks
//   anything else           "You said: … I have seen N user turns."
import { createServer } from 'node:http';

export async function model(socket, documents = {}, script = {}) {
  const held = new Set();
  const requests = [];
  const server = createServer((request, response) => {
    const chunks = [];
    request.on('data', (c) => chunks.push(c));
    request.on('end', () => {
      if (request.method === 'GET') {
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify({ object: 'list', data: [{ id: 'scripted-1', object: 'model' }] }));
        return;
      }
      const body = JSON.parse(Buffer.concat(chunks).toString('utf8'));
      requests.push(body);
      void answer(body, response).catch(() => response.destroy());
    });
  });

  async function answer(body, response) {
    const users = body.messages.filter((m) => m.role === 'user');
    const text = users.at(-1)?.content ?? '';
    const after = body.messages.slice(body.messages.lastIndexOf(users.at(-1)) + 1);
    const tool = /\[\[tool (\S+) (\{.*?\})\]\]/.exec(text);
    const words = /\[\[words (\d+) (\d+)\]\]/.exec(text);
    const say = /\[\[say ([\s\S]*?)\]\]/.exec(text)?.[1];
    const doc = /\[\[doc (\S+)\]\]/.exec(text)?.[1];
    if (text.includes('[[hang]]')) return;
    const stream = sse(body, response);
    const step = script[text]?.[after.filter((m) => m.role === 'tool').length];
    if (step) {
      await new Promise((next) => setTimeout(next, step.wait ?? 0));
      for (const piece of step.say?.match(/\S+\s*/g) ?? []) stream.delta({ content: piece });
      if (step.tool) stream.delta({ tool_calls: [{ index: 0, id: `call-${after.length + 1}`, type: 'function', function: { name: step.tool[0], arguments: JSON.stringify(step.tool[1]) } }] });
      return stream.end(step.tool ? 'tool_calls' : 'stop');
    }
    if (tool && !after.some((m) => m.role === 'tool')) {
      stream.delta({ tool_calls: [{ index: 0, id: `call-${users.length}`, type: 'function', function: { name: tool[1], arguments: tool[2] } }] });
      return stream.end('tool_calls');
    }
    if (words) {
      for (let i = 1; i <= Number(words[1]) && !response.destroyed; i++) {
        stream.delta({ content: `w${i} ` });
        await new Promise((next) => setTimeout(next, Number(words[2])));
      }
    } else if (text.includes('[[hold]]')) {
      stream.delta({ content: 'The first half stands. ' });
      await new Promise((go) => {
        held.add(go);
        response.on('close', go);
      });
      stream.delta({ content: 'And here is the second half.' });
    } else if (tool) stream.delta({ content: 'The tool answered.' });
    else if (doc) stream.delta({ content: documents[doc] ?? `no document ${doc}` });
    else stream.delta({ content: say ?? `You said: ${text}. I have seen ${users.length} user turns.` });
    stream.end('stop');
  }

  function sse(body, response) {
    const head = { id: 'c-1', object: 'chat.completion.chunk', created: 1, model: 'scripted-1' };
    const whole = { content: '', tool_calls: [] };
    let open = false;
    const write = (value) => {
      if (!body.stream || response.destroyed) return;
      if (!open) response.writeHead(200, { 'content-type': 'text/event-stream' });
      open = true;
      response.write(`data: ${typeof value === 'string' ? value : JSON.stringify(value)}\n\n`);
    };
    return {
      delta(delta) {
        whole.content += delta.content ?? '';
        whole.tool_calls.push(...(delta.tool_calls ?? []));
        write({ ...head, choices: [{ index: 0, delta: { role: 'assistant', ...delta }, finish_reason: null }] });
      },
      end(reason) {
        const usage = { prompt_tokens: 12, completion_tokens: 7, total_tokens: 19 };
        if (body.stream) {
          write({ ...head, choices: [{ index: 0, delta: {}, finish_reason: reason }] });
          write({ ...head, choices: [], usage });
          write('[DONE]');
          response.end();
          return;
        }
        response.setHeader('content-type', 'application/json');
        const message = { role: 'assistant', content: whole.content, ...(whole.tool_calls.length > 0 ? { tool_calls: whole.tool_calls } : {}) };
        response.end(JSON.stringify({ ...head, object: 'chat.completion', choices: [{ index: 0, message, finish_reason: reason }], usage }));
      },
    };
  }

  await new Promise((done) => server.listen(socket, done));
  return {
    url: `unix:${socket}`,
    requests,
    /** Lets go what is held. */
    release() {
      for (const go of held) go();
      held.clear();
    },
    get holding() {
      return held.size;
    },
    close: () =>
      new Promise((done) => {
        server.closeAllConnections();
        server.close(done);
      }),
  };
}
