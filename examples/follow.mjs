// Prints each change of the state, for ever: node examples/follow.mjs http://localhost:7811
const base = process.argv[2] ?? "http://localhost:7811";
const current = base + "/v1/breadcrumbs/current";
const pause = seconds => new Promise(over => setTimeout(over, 1000 * seconds));
for (let url = current; ; ) {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(60_000) }); // the daemon waits up to 29 s for a change
    if (answer.status === 410) url = current; // the cursor is gone: read the whole state again
    else if (answer.status === 429 || answer.status >= 500) await pause(answer.headers.get("retry-after") ?? 1); // not now
    else if (!answer.ok) throw Object.assign(new Error(`${answer.status} ${await answer.text()}`), { fatal: true });
    else {
      const body = answer.status === 200 ? await answer.json() : {}; // 204: no change
      const link = answer.headers.get("link").match(/<(.*?)>/)[1]; // </v1/breadcrumbs/CURSOR/next>; rel="next"
      for (const record of body.entries ?? body.updates ?? []) console.log(JSON.stringify(record));
      url = new URL(link, url).href;
    }
  } catch (error) { // no answer, or a part of one: ask again
    if (error.fatal) throw error;
    await pause(1);
  }
}
