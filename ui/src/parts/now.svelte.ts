// The page's one clock: it ticks once a second while something shows it, and not at all in a hidden tab.
import { createSubscriber } from 'svelte/reactivity';

const ticking = createSubscriber((update) => {
  const timer = setInterval(() => {
    if (!document.hidden) update();
  }, 1_000);
  document.addEventListener('visibilitychange', update);
  return () => {
    clearInterval(timer);
    document.removeEventListener('visibilitychange', update);
  };
});

/** Milliseconds since the epoch; whoever reads it is run again every second. */
export function now(): number {
  ticking();
  return Date.now();
}
