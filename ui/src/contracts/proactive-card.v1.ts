// Generated from contracts/proactive-card.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as unit_v1 from './unit.v1.ts';

/** What a dispatch proposes to a person. It does nothing until it is decided. */
export type Card = {
  /** The card's id. */
  readonly id: CardId;
  /** The dispatch that made it, as its id or as unit:<id>. */
  readonly unit_id: string;
  /** The person who decides. */
  readonly owner: unit_v1.Subject;
  /** suggestion: something to do. alert: something to know now. digest: a summary. */
  readonly kind: "suggestion" | "alert" | "digest";
  /** One line for a list. */
  readonly title: string;
  /** The body, in Markdown. Text from an agent: shown as text, never as HTML. */
  readonly body_md?: string;
  /** What the person can do with it. */
  readonly actions: readonly CardAction[];
  /** When it was made. RFC 3339, with a zone. */
  readonly ts: string;
  /** The call that an approval would let through. */
  readonly effect?: ProposedEffect;
  /** After this moment it can no longer be approved. RFC 3339, with a zone. */
  readonly expires?: string;
  /** What the proposal rests on. */
  readonly sources?: readonly unit_v1.SourceRef[];
};

/** A card's id, such as card_ai_001. */
export type CardId = string;

/** A button. */
export type CardAction = {
  /** Its words. */
  readonly label: string;
  /** The command it gives, such as card.approve or task.create. */
  readonly invoke: string;
};

/** One exact tool call. */
export type ProposedEffect = {
  /** The tool that would be called. */
  readonly tool: unit_v1.ToolName;
  /** SHA-256 of the canonical (RFC 8785) arguments. An approval holds for these bytes alone. */
  readonly args_digest: string;
  /** The arguments in words, as the person sees them. */
  readonly preview: string;
};

/** What a person decided about one version of a card. Taken once: a second one about the same version is a conflict. */
export type Decision = {
  /** Which card. */
  readonly card: CardId;
  /** Which version of it was on the screen: 1, and one more for each edit. */
  readonly version: number;
  /** approve: do it. edit: replace it by a new version. reject: never. defer: ask again later. */
  readonly decision: "approve" | "edit" | "reject" | "defer";
  /** Who decided. */
  readonly by: unit_v1.Subject;
  /** When. RFC 3339, with a zone. */
  readonly ts: string;
  /** The digest of the effect that was shown. Needed for an approval of a card with an effect. */
  readonly args_digest?: string;
  /** The new version, for an edit. */
  readonly edited?: Card;
  /** Why, for a rejection. */
  readonly reason?: string;
  /** When to ask again, for a deferral. RFC 3339, with a zone. */
  readonly until?: string;
};
