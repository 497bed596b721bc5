// Check 25: signing in at an OpenID provider, a real Keycloak. Who presses the button and signs in there stands in the chat as
// the person whom an administrator linked; who is linked to nobody reads what to do, and is in when it was done; and when the
// provider is down that is said, and the printed key is as good as ever.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, watch } from './support/browser.mjs';
import { installation } from './support/installation.mjs';
import { configuration, idOf, keycloak, silence } from './support/keycloak.mjs';
import { PHONE, sideways, small, violations } from './support/looks.mjs';
import { live, over, send, soon } from './support/pages.mjs';

let it, browser, provider;
before(async () => {
  const place = await silence();
  it = await installation({ config: configuration(place.port) });
  await place.letGo();
  provider = await keycloak(place.port, it);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await provider?.end();
  await it?.end();
});

const there = (page) => page.getByRole('link', { name: 'Sign in with Acme' });
/** Whom the server says the page is signed in as; the code of its answer for nobody. */
const me = (page) =>
  page.evaluate(async () => {
    const said = await (await fetch('/api/v1/me')).json();
    return said.code ?? [said.subject, said.provider];
  });
/** What a page of this size must be like, in the light and in the dark. */
async function looksRight(page, what) {
  assert.deepEqual(await violations(page), [], what);
  assert.deepEqual([...(await sideways(page)), ...(await small(page))], [], what);
}
function ok(on, ...args) {
  const ran = on.custody(...args);
  assert.equal(ran.code, 0, ran.err);
}

test('who signs in there stands in the chat as the person who is linked', async () => {
  ok(it, 'user', 'add', 'u_jane', '--name', 'Jane', '--link', idOf('jane'));
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  await page.goto(`${it.url}/chat`);
  await there(page).waitFor();
  await looksRight(page, 'the page with the button');
  assert.equal(await me(page), 'NOT_SIGNED_IN');
  await there(page).click();
  await provider.signIn(page, 'jane');
  await page.waitForURL(`${it.url}/chat`);
  await live(page);
  assert.deepEqual(await me(page), ['u_jane', 'oidc']);
  await page.locator('summary[aria-label*="your account: Jane"]').waitFor();

  // What she then does is hers in the log too.
  const words = page.getByRole('region', { name: 'Before your first message' });
  await words.getByText('u_jane lets user:web-chat').waitFor();
  await words.getByRole('button', { name: 'I agree' }).click();
  await words.waitFor({ state: 'detached' });
  await send(page, 'Who am I here?');
  const [turn] = await over(page, 1);
  assert.match(turn.words, /You said: Who am I here\?/);
  assert.equal(it.json('dispatch', 'ls').find((row) => row.dispatch === turn.id).subject, 'u_jane');

  // Signing out ends ours: the button is there again.
  await page.locator('summary[aria-label*="your account"]').click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await there(page).waitFor();
  assert.equal(await me(page), 'NOT_SIGNED_IN');
  await context.close();
});

test('on a phone: who is linked to nobody reads the next step, and is in when it was made', async () => {
  ok(it, 'user', 'add', 'u_omar', '--name', 'Omar');
  const context = await browser.newContext(PHONE);
  const page = await context.newPage();
  await page.goto(`${it.url}/chat`);
  await there(page).waitFor();
  await looksRight(page, 'the page with the button');
  await there(page).tap();
  await provider.signIn(page, 'omar');
  await page.waitForURL((url) => url.pathname === '/login');
  await page.getByRole('alert').getByText('Your account there is linked to nobody here').waitFor();
  await page.getByRole('alert').getByText('An administrator links it with custody user link').waitFor();
  await there(page).waitFor();
  await looksRight(page, 'the refusal');
  assert.equal(await me(page), 'NOT_SIGNED_IN');
  const id = idOf('omar');
  assert.match(it.log(), new RegExp(`PERSON_UNKNOWN.*${id}`), 'the server says to its administrator whom it refused');

  // The same browser, the same page: Keycloak knows him by now and asks for nothing.
  ok(it, 'user', 'link', 'u_omar', id);
  await there(page).tap();
  await page.waitForURL(`${it.url}/chat`);
  await live(page);
  assert.deepEqual(await me(page), ['u_omar', 'oidc']);
  await context.close();
});

test('until the button is pressed nothing is asked of anybody else', async () => {
  const context = await browser.newContext();
  const { outside, breaches } = await watch(context, it.url);
  const page = await context.newPage();
  await page.goto(`${it.url}/login?problem=SIGN_IN_OVER&to=%2Fchat`);
  await page.getByRole('alert').getByText('Begin again').waitFor();
  await there(page).waitFor();
  assert.equal(await there(page).getAttribute('href'), '/api/v1/sign-in/oidc?to=%2Fchat');
  assert.deepEqual([outside, breaches], [[], []]);
  await context.close();
});

test('a provider that is down is said to be, and the printed key signs in', async () => {
  const place = await silence();
  const alone = await installation({ config: configuration(place.port) });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  try {
    const page = await context.newPage();
    await page.goto(`${alone.url}/chat`);
    await there(page).click();
    await page.waitForURL((url) => url.pathname === '/login');
    await page.getByRole('alert').getByText('The identity provider does not answer. Try again, or use your key.').waitFor();
    await looksRight(page, 'the page without a provider');
    await page.getByLabel('Access key').fill(alone.key);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await live(page);
    await soon(async () => assert.equal(page.url(), `${alone.url}/chat`, 'where the person was going'));
    assert.deepEqual(await me(page), [alone.subject, 'access_key']);
  } finally {
    await context.close();
    await alone.end();
    await place.letGo();
  }
});
