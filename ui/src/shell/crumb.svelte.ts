// What the open page calls itself, for the header and the tab: a page with an object says the object's name.
let text = $state<string | null>(null);

export const crumb = {
  get text(): string | null {
    return text;
  },
};

/** Names the page while the calling component is there. */
export function named(name: () => string | null): void {
  $effect(() => {
    text = name();
    return () => {
      text = null;
    };
  });
}
