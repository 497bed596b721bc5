// What an agent said and did in one dispatch, from the frames of its output: words, tool calls, trouble.
// Frames are numbered from 1 without holes; one that was seen is not taken twice.
import type { box } from '../contracts/index.ts';

export type Block =
  | { readonly kind: 'words'; readonly key: string; readonly text: string }
  | {
      readonly kind: 'tool';
      readonly key: string;
      readonly id: string;
      readonly name: string;
      readonly args: Readonly<Record<string, unknown>>;
      readonly at: number;
      readonly ended_at: number | null;
      readonly ok: boolean | null;
      readonly result: string | null;
    }
  | { readonly kind: 'trouble'; readonly key: string; readonly code: string; readonly text: string }
  | { readonly kind: 'log'; readonly key: string; readonly stream: string; readonly text: string }
  | { readonly kind: 'cut'; readonly key: string; readonly bytes: number }
  /** A turn of the container is over; what follows answers the next follow-up. */
  | { readonly kind: 'turn'; readonly key: string; readonly turn: number };

export interface Talk {
  /** The last frame's number. */
  seen: number;
  /** A frame is missing before this one: the head was removed by retention, or a reader skipped. */
  missing_before: number | null;
  blocks: readonly Block[];
  started_at: number | null;
  last_at: number | null;
  resumed: boolean;
  /** Turns of this container that are over. */
  turns: number;
  /** The agent's own final word; shown only where it said nothing else. */
  result: string | null;
  exit: { readonly reason: string; readonly detail: string | null } | null;
  input_tokens: number;
  output_tokens: number;
}

export const emptyTalk = (): Talk => ({
  seen: 0,
  missing_before: null,
  blocks: [],
  started_at: null,
  last_at: null,
  resumed: false,
  turns: 0,
  result: null,
  exit: null,
  input_tokens: 0,
  output_tokens: 0,
});

/** Text that comes in pieces is one block until something else happens. */
export function applyFrames(talk: Talk, frames: readonly box.Frame[]): void {
  let blocks = talk.blocks;
  let open: string[] | null = null;
  const close = () => {
    const last = blocks[blocks.length - 1];
    if (open && last?.kind === 'words') blocks = [...blocks.slice(0, -1), { ...last, text: last.text + open.join('') }];
    open = null;
  };
  const push = (block: Block) => {
    close();
    blocks = [...blocks, block];
  };
  for (const frame of frames) {
    if (frame.seq <= talk.seen) continue;
    if (frame.seq !== talk.seen + 1) talk.missing_before = frame.seq;
    talk.seen = frame.seq;
    talk.last_at = frame.at;
    const key = String(frame.seq);
    switch (frame.kind) {
      case 'started':
        talk.started_at = frame.at;
        talk.resumed = frame.resumed;
        break;
      case 'text':
        if (blocks[blocks.length - 1]?.kind !== 'words') push({ kind: 'words', key, text: '' });
        (open ??= []).push(frame.text);
        break;
      case 'tool_call':
        push({ kind: 'tool', key, id: frame.id, name: frame.name, args: frame.args, at: frame.at, ended_at: null, ok: null, result: null });
        break;
      case 'tool_result': {
        close();
        const { id, ok, text, at } = frame;
        blocks = blocks.map((b) => (b.kind === 'tool' && b.id === id && b.ok === null ? { ...b, ok, result: text, ended_at: at } : b));
        break;
      }
      case 'usage':
        talk.input_tokens = frame.input_tokens;
        talk.output_tokens = frame.output_tokens;
        break;
      case 'log':
        push({ kind: 'log', key, stream: frame.stream, text: frame.text });
        break;
      case 'error':
        push({ kind: 'trouble', key, code: frame.code, text: frame.message });
        break;
      case 'result':
        talk.result = frame.text;
        break;
      case 'turn': {
        close();
        // What was the last word of this turn is not the next one's.
        const since = blocks.slice(blocks.findLastIndex((b) => b.kind === 'turn') + 1);
        if (talk.result !== null && !since.some((b) => b.kind === 'words')) push({ kind: 'words', key: `${key}-result`, text: talk.result });
        talk.result = null;
        talk.turns = frame.turn;
        push({ kind: 'turn', key, turn: frame.turn });
        break;
      }
      case 'truncated':
        push({ kind: 'cut', key, bytes: frame.bytes });
        break;
      case 'exit':
        talk.exit = { reason: frame.reason, detail: frame.detail ?? null };
        break;
      default:
    }
  }
  close();
  talk.blocks = blocks;
}

/** The agent's words, as one text. */
export function wordsOf(talk: Talk): string {
  const said = talk.blocks.flatMap((b) => (b.kind === 'words' ? [b.text] : [])).join('\n\n');
  return said === '' ? (talk.result ?? '') : said;
}
