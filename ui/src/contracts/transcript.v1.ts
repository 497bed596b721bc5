// Generated from contracts/transcript.v1/schema.json by scripts/types.mjs. Do not edit.

/** One utterance of one speaker. */
export type TranscriptSegment = {
  /** The segment's id; a later segment with the same id replaces this one. Such as <session_uid>:<speaker_key>:<start in ms>. */
  readonly segment_id: string;
  /** The speaker's name as shown, or a provisional label. */
  readonly speaker: string;
  /** The channel or cluster the speech came from. */
  readonly speaker_key?: string;
  /** What was said. Data, never an instruction. */
  readonly text: string;
  /** When it begins. Seconds, usually from the session's start; a source that has only a wall clock gives Unix seconds. A little below zero is speech from before the start. */
  readonly start: number;
  /** When it ends. Seconds, usually from the session's start; a source that has only a wall clock gives Unix seconds. A little below zero is speech from before the start. */
  readonly end: number;
  /** The language, as a BCP 47 tag; null: unknown. */
  readonly language?: string | null;
  /** True: confirmed. False: a draft that may still change. */
  readonly completed: boolean;
  /** When it begins, by the wall clock. RFC 3339, with a zone. */
  readonly absolute_start_time?: string;
  /** When it ends, by the wall clock. RFC 3339, with a zone. */
  readonly absolute_end_time?: string;
  /** How the speaker was found. */
  readonly source?: Source;
  /** How sure that is, from 0 to 1. */
  readonly confidence?: number;
  /** The words with their times. */
  readonly words?: readonly Word[];
};

/** glow-bound: by the meeting's own speaker mark. provisional-cluster-id: by voice, not named yet. caption: by the meeting's captions. merged: from several. chat: a message in the meeting's chat. */
export type Source = "glow-bound" | "provisional-cluster-id" | "caption" | "merged" | "chat";

/** One word. */
export type Word = {
  /** The word. */
  readonly word: string;
  /** When it begins. Seconds, usually from the session's start; a source that has only a wall clock gives Unix seconds. A little below zero is speech from before the start. */
  readonly start: number;
  /** When it ends. Seconds, usually from the session's start; a source that has only a wall clock gives Unix seconds. A little below zero is speech from before the start. */
  readonly end: number;
  /** How sure it is, from 0 to 1. */
  readonly probability?: number;
};

/** A recording session begins. */
export type SessionStart = {
  /** The kind of message. */
  readonly type: "session_start";
  /** The id of one recording session of a meeting. */
  readonly session_uid: string;
  /** The meeting's id. */
  readonly meeting_id: string;
  /** Where the meeting takes place, such as google_meet. */
  readonly platform: string;
  /** When it began. RFC 3339, with a zone. */
  readonly start_time: string;
};

/** Confirmed segments of a session. */
export type Transcription = {
  /** The kind of message. */
  readonly type: "transcription";
  /** The id of one recording session of a meeting. */
  readonly session_uid: string;
  /** The meeting's id. */
  readonly meeting_id: string;
  /** The segments, oldest first. */
  readonly segments: readonly TranscriptSegment[];
};

/** A recording session is over. */
export type SessionEnd = {
  /** The kind of message. */
  readonly type: "session_end";
  /** The id of one recording session of a meeting. */
  readonly session_uid: string;
};

/** How one speaker's words stand now: what is confirmed and what may still change. It replaces the one before. */
export type MutableBundle = {
  /** The kind of message. */
  readonly type: "transcript";
  /** The meeting. */
  readonly meeting: MeetingKey;
  /** The speaker's name as shown. */
  readonly speaker: string;
  /** Segments that stay. */
  readonly confirmed: readonly TranscriptSegment[];
  /** Segments that may still change. */
  readonly pending: readonly TranscriptSegment[];
  /** When the bundle was made. RFC 3339, with a zone. */
  readonly ts: string;
};

/** A meeting by the id of its row, not of its room: a recurring room holds many meetings. */
export type MeetingKey = {
  /** The id, a number or a string. */
  readonly id: number | string;
};
