"use strict";
// One page: a gallery of sources, and a studio for the run that is open. The server holds all state; this file shows it.

const $ = (id) => document.getElementById(id);
const HEADERS = { "X-Spm-Page": "1", "Content-Type": "application/json" };
const LANES = ["a", "b"];
const S = {
  home: null, run: 0, about: null, mark: 0, version: -1, rows: [new Map(), new Map()],
  at: 0, shown: -1, follow: true, playing: false, pending: null, drag: null, hover: null,
};

// ---------------------------------------------------------------------------------------------- asking the server

async function ask(path, method = "GET", body) {
  let answer;
  try {
    answer = await fetch(`/api/${path}`, { method, headers: HEADERS, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw Object.assign(new Error("spm-page does not answer: has it been stopped?"), { status: 0 });
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(said.error || `error ${answer.status}`), { status: answer.status });
  return said;
}

const attempt = (work) => work().then(() => true, (error) => { complain(error.message); return false; });
function complain(text) { $("banner-text").textContent = text; $("banner").hidden = !text; }
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function poll(run) {
  let broken = false;
  while (S.run === run) {
    try {
      const news = await ask(`runs/${run}?mark=${S.mark}&version=${S.version}&wait=1`);
      if (S.run !== run) return;
      if (broken) { broken = false; complain(""); }
      take(news);
      if (!news.more) await sleep(60);
    } catch (error) {
      if (S.run !== run) return;
      if (error.status === 404) { complain("That run has been closed."); return showGallery(); }
      broken = true;
      complain(error.message);
      await sleep(1000);
    }
  }
}

function take(news) {
  if (news.mark < S.mark) S.rows.forEach((rows) => rows.clear());
  for (const [lane, position, ...row] of news.rows) {
    if (row.length) S.rows[lane].set(position, row); else S.rows[lane].delete(position);
  }
  S.mark = news.mark;
  S.version = news.version;
  const before = S.about;
  S.about = news;
  document.title = `${news.name} - spm-page`;
  if (news.state === "failed" && before && before.state !== "failed") complain(news.message);
  if (before && before.video.state === "working" && news.video.state === "ready") fetchVideo();
  if (S.follow && !S.pending && news.given.length && newest() >= 0) wish(newest());
  drawAll(!before || JSON.stringify([before.lanes.map(chosen), before.given]) !== JSON.stringify([news.lanes.map(chosen), news.given]));
}

const chosen = (lane) => [lane.bundle, lane.backend];

// ---------------------------------------------------------------------------------------------- what is known

const row = (lane, position) => S.rows[lane].get(position);
const boxOf = (r) => r.slice(0, 4);
const scoreOf = (r) => r[4];
const stateOf = (r) => r[5];
function newest() {
  let last = -1;
  for (const position of S.rows[0].keys()) if (position > last) last = position;
  return last;
}
function count() {
  const about = S.about;
  return Math.max(about.end || 0, newest() + 1, S.at + 1, 1);
}
const laneColor = (lane) => css(lane ? "--b" : "--a");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
function laneName(lane) {
  const { bundle, backend } = S.about.lanes[lane];
  const library = (S.about.lanes[lane].description || backend).split(/[ ,;(]/)[0];
  return `${S.home.bundles[bundle].name} · ${library}`;
}
function clock(position) {
  const rate = S.about.rate;
  if (!rate) return "";
  const s = position / rate;
  return `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}.${String(Math.floor((s % 1) * 100)).padStart(2, "0")}`;
}

// ---------------------------------------------------------------------------------------------- frames

const pictures = new Map(); // position -> image, the least recently used first
let wanted = -1, loading = false;

async function picture(position) {
  const kept = pictures.get(position);
  if (kept) { pictures.delete(position); pictures.set(position, kept); return kept; }
  const image = new Image();
  image.src = `/api/runs/${S.run}/frames/${position}.jpg`;
  await image.decode();
  pictures.set(position, image);
  while (pictures.size > 160) pictures.delete(pictures.keys().next().value);
  return image;
}

/** Show a frame as soon as it is there; of many wishes the last one counts. */
async function wish(position) {
  wanted = clamp(position, 0, count() - 1);
  S.at = wanted;
  remember();
  if (loading) return;
  loading = true;
  const run = S.run;
  while (run === S.run && S.shown !== wanted) {
    const next = wanted;
    try { await picture(next); } catch { break; }
    if (run === S.run) { S.shown = next; drawFrame(); }
  }
  loading = false;
}

function jump(position, follow = false) {
  S.follow = follow;
  S.pending = null;
  wish(position);
  drawAll(false);
}

let remembering = 0;
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => { if (S.run) history.replaceState(null, "", `#run=${S.run}${S.follow ? "" : `&frame=${S.at}`}`); }, 200);
}

async function play() {
  S.playing = !S.playing;
  document.body.classList.toggle("playing", S.playing);
  $("play").title = S.playing ? "Stop (space)" : "Play (space)";
  if (!S.playing) return;
  S.follow = false;
  S.pending = null;
  if (S.at >= count() - 1) S.at = -1;
  let due = performance.now();
  const run = S.run;
  while (S.playing && S.run === run && S.at < count() - 1) {
    for (let k = 1; k <= 6; k++) if (S.at + k < count()) picture(S.at + k).catch(() => {});
    await wish(S.at + 1);
    drawAll(false);
    due = Math.max(due + 1000 / (S.about.rate || 25), performance.now() - 100);
    await sleep(Math.max(0, due - performance.now()));
  }
  S.playing = false;
  document.body.classList.remove("playing");
}

// ---------------------------------------------------------------------------------------------- drawing

function fit(canvas) {
  const ratio = window.devicePixelRatio || 1, { clientWidth: w, clientHeight: h } = canvas;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, w, h);
  return [context, w, h];
}

/** Scale and offset of the picture in a canvas. */
function place(canvas) {
  const [width, height] = S.about.size, { clientWidth: w, clientHeight: h } = canvas;
  const scale = Math.min(w / width, h / height);
  return { scale, left: (w - width * scale) / 2, top: (h - height * scale) / 2 };
}

const views = () => [...document.querySelectorAll(".view")];

function drawFrame() {
  if (!S.about) return;
  views().forEach((view, lane) => {
    if (view.hidden) return;
    const canvas = view.querySelector("canvas"), [context] = fit(canvas), p = place(canvas);
    const image = pictures.get(S.shown), [width, height] = S.about.size;
    context.imageSmoothingQuality = "high";
    if (image) context.drawImage(image, p.left, p.top, width * p.scale, height * p.scale);
    const r = row(lane, S.shown);
    if (r && !(S.pending && S.shown === S.at)) drawTrack(context, p, r, laneColor(lane));
    if (S.pending) drawPending(context, p, S.pending);
  });
  placeConfirm();
  drawNow();
}

function drawTrack(context, p, r, color) {
  const [x, y, w, h] = boxOf(r), state = stateOf(r);
  const stroke = { lost: css("--lost"), unsure: css("--unsure"), "found again": css("--again") }[state] || color;
  const at = [p.left + x * p.scale, p.top + y * p.scale, w * p.scale, h * p.scale];
  context.lineJoin = "round";
  context.setLineDash(state === "lost" ? [7, 6] : []);
  context.lineWidth = 5; context.strokeStyle = "rgb(0 0 0 / .35)"; context.strokeRect(...at);
  context.lineWidth = 2.5; context.strokeStyle = stroke; context.strokeRect(...at);
  context.setLineDash([]);
  const text = state === "given" ? "your box" : state === "tracked" ? scoreOf(r).toFixed(2) : `${state.toUpperCase()} ${scoreOf(r).toFixed(2)}`;
  context.font = "600 12.5px " + css("--font");
  const wide = context.measureText(text).width + 14;
  const top = at[1] > 28 ? at[1] - 26 : at[1] + at[3] + 5;
  context.fillStyle = stroke; context.beginPath(); context.roundRect(at[0] - 1, top, wide, 21, 6); context.fill();
  context.fillStyle = state === "tracked" || state === "given" ? css("--on-accent") : "#fff";
  context.fillText(text, at[0] + 6, top + 15);
}

function drawPending(context, p, box) {
  const at = [p.left + box.x * p.scale, p.top + box.y * p.scale, box.w * p.scale, box.h * p.scale];
  const [width, height] = S.about.size;
  context.fillStyle = "rgb(3 6 12 / .5)";
  context.beginPath();
  context.rect(p.left, p.top, width * p.scale, height * p.scale);
  context.rect(...at);
  context.fill("evenodd");
  context.lineWidth = 2; context.strokeStyle = "#fff"; context.strokeRect(...at);
  for (const [cx, cy] of corners(box)) {
    context.fillStyle = css("--a"); context.beginPath(); context.arc(p.left + cx * p.scale, p.top + cy * p.scale, 5.5, 0, 7); context.fill();
    context.lineWidth = 1.5; context.strokeStyle = "#fff"; context.stroke();
  }
}

const corners = (b) => [[b.x, b.y], [b.x + b.w, b.y], [b.x, b.y + b.h], [b.x + b.w, b.y + b.h]];

function placeConfirm() {
  const ready = S.pending && !S.drag && S.pending.w >= 1 && S.pending.h >= 1;
  $("confirm").hidden = !ready;
  if (!ready) return;
  const given = S.about.given.length > 0;
  $("confirm-go").textContent = given ? `Go on from here` : "Track";
  const view = views()[S.pending.lane], p = place(view.querySelector("canvas")), bar = $("confirm");
  const left = view.offsetLeft + p.left + S.pending.x * p.scale, under = view.offsetTop + p.top + (S.pending.y + S.pending.h) * p.scale + 10;
  bar.style.left = `${clamp(left, 6, $("stage").clientWidth - bar.offsetWidth - 6)}px`;
  bar.style.top = `${clamp(under, 6, $("stage").clientHeight - bar.offsetHeight - 6)}px`;
}

function drawAll(rebuild) {
  if (!S.about) return;
  const about = S.about, two = about.lanes.length > 1;
  views()[1].hidden = !two;
  $("stage").classList.toggle("two", two);
  // Two pictures side by side are lower than one: what they leave goes to the scores.
  $("stage").style.flex = two ? `0 1 ${Math.round((($("stage").clientWidth - 12) / 2) * (about.size[1] / about.size[0]))}px` : "";
  if (rebuild) { buildLanes(); buildGiven(); }
  views().forEach((view, lane) => {
    if (lane >= about.lanes.length) return;
    view.querySelector("figcaption").hidden = !two;
    view.querySelector("figcaption").replaceChildren(make("i", `dot ${LANES[lane]}`), laneName(lane));
  });
  $("source-name").textContent = about.name;
  $("source-size").textContent = `${about.size[0]} × ${about.size[1]}${about.rate ? ` · ${Number(about.rate.toFixed(2))} fps` : ""}${about.live ? " · live" : ""}`;
  $("frame").textContent = S.at;
  $("frames").textContent = `/ ${count() - 1}`;
  $("time").textContent = clock(S.at);
  $("hint").hidden = about.given.length > 0 || S.pending !== null;
  $("busy").hidden = about.state !== "loading";
  $("busy-text").textContent = "Loading the tracker …";
  $("next-lost").disabled = nextLost() < 0;
  $("timeline").setAttribute("aria-valuemax", count() - 1);
  $("timeline").setAttribute("aria-valuenow", S.at);
  drawStatus(); drawPace(); drawTotals(); drawVideo(); drawPlot(); drawFrame();
}

function drawStatus() {
  const about = S.about, pill = $("pause"), done = S.rows[0].size, total = about.end ? Math.max(about.end - Math.min(...about.given.map((g) => g[0]), about.end), 0) : 0;
  const share = total ? ` ${Math.min(100, Math.floor((100 * done) / total))} %` : "";
  const behind = about.live && about.end - 1 - newest() > (about.rate || 25) ? `, ${((about.end - 1 - newest()) / (about.rate || 25)).toFixed(1)} s behind` : "";
  pill.className = `pill ${about.state}`;
  pill.hidden = about.state === "ready";
  $("status").textContent = {
    ready: "", loading: "Loading", tracking: `Tracking${about.live ? behind : share}`, paused: `Stopped at${share || ` ${newest()}`}`,
    done: about.message ? `Done: ${about.message}` : "Done", failed: "Failed",
  }[about.state];
}

function drawPace() {
  document.querySelectorAll(".lane p").forEach((line, lane) => {
    const known = S.about.lanes[lane];
    const pace = known && known.milliseconds ? `${known.milliseconds.toFixed(1)} ms a frame` : "";
    line.textContent = [known ? known.description : "", pace].filter(Boolean).join(" · ");
  });
}

function drawNow() {
  const parts = S.about.lanes.map((about, lane) => {
    const r = row(lane, S.at), box = make("div", "reading");
    const state = r ? stateOf(r) : "none", words = { given: "your box", none: "not tracked" }[state] || state;
    const score = r && scoreOf(r) !== null ? scoreOf(r) : null;
    const fill = make("i", "");
    fill.style.width = `${100 * (score ?? (state === "given" ? 1 : 0))}%`;
    fill.style.background = state === "lost" ? css("--lost") : state === "unsure" ? css("--unsure") : laneColor(lane);
    const meter = make("div", "meter"), numbers = make("div", "numbers");
    meter.append(fill);
    const names = ["x", "y", "w", "h"];
    numbers.append(...(r ? boxOf(r) : ["–", "–", "–", "–"]).map((v, k) => make("span", "", `${names[k]} ${typeof v === "number" ? v.toFixed(1) : v}`)));
    box.append(make("span", "score", score === null ? "–" : score.toFixed(3)), make("span", `state ${state.split(" ")[0]}`, words), meter, numbers);
    return box;
  });
  const [a, b] = [row(0, S.at), row(1, S.at)];
  if (S.about.lanes.length > 1 && a && b) {
    const line = make("div", "agree"), apart = Math.hypot(a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2);
    line.append(make("span", "dim", "Overlap (IoU)"), make("b", "", overlap(a, b).toFixed(3)), make("span", "dim", "Centres apart"), make("b", "", `${apart.toFixed(2)} px`));
    parts.push(line);
  }
  $("now").replaceChildren(...parts);
}

function overlap([ax, ay, aw, ah], [bx, by, bw, bh]) {
  const w = Math.max(0, Math.min(ax + aw, bx + bw) - Math.max(ax, bx)), h = Math.max(0, Math.min(ay + ah, by + bh) - Math.max(ay, by));
  return (w * h) / (aw * ah + bw * bh - w * h || 1);
}

function drawTotals() {
  const lines = [];
  S.about.lanes.forEach((_, lane) => {
    const all = [...S.rows[lane].values()], scored = all.filter((r) => scoreOf(r) !== null);
    const lost = all.filter((r) => stateOf(r) === "lost").length, mean = scored.reduce((sum, r) => sum + scoreOf(r), 0) / (scored.length || 1);
    const mark = S.about.lanes.length > 1 ? ` ${LANES[lane].toUpperCase()}` : "";
    lines.push([`Frames${mark}`, all.length], [`Lost${mark}`, lost], [`Mean score${mark}`, scored.length ? mean.toFixed(3) : "–"]);
  });
  if (S.about.lanes.length > 1) {
    const both = [...S.rows[0].keys()].filter((position) => S.rows[1].has(position));
    const mean = both.reduce((sum, position) => sum + overlap(row(0, position), row(1, position)), 0) / (both.length || 1);
    const [a, b] = S.about.lanes.map((lane) => lane.milliseconds);
    lines.push(["Mean overlap", both.length ? mean.toFixed(4) : "–"]);
    if (a && b) lines.push(["Time, B to A", `${(b / a).toFixed(2)} ×`]);
  }
  $("totals").replaceChildren(...lines.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", String(value))]));
}

function drawVideo() {
  const video = S.about.video, button = $("download-video");
  button.classList.toggle("working", video.state === "working");
  $("video-bar").style.width = `${(100 * video.done) / (video.total || 1)}%`;
  $("video-state").textContent = { working: `${video.done} of ${video.total} frames`, failed: video.message }[video.state] || "MP4, made on demand";
}

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

// ---------------------------------------------------------------------------------------------- timeline

const PAD = 14, BAR = 18;
const plotX = (position, w) => PAD + ((w - 2 * PAD) * position) / Math.max(1, count() - 1);

function drawPlot() {
  const [context, w, h] = fit($("plot")), top = 34, low = h - 12, lanes = S.about.lanes;
  const y = (score) => low - (low - top) * score;
  context.font = "11px " + css("--font");
  context.strokeStyle = css("--line"); context.fillStyle = css("--dim"); context.lineWidth = 1;
  for (const level of [0, 0.5, 1]) { context.beginPath(); context.moveTo(PAD, y(level)); context.lineTo(w - PAD, y(level)); context.stroke(); }
  context.setLineDash([4, 4]); context.strokeStyle = css("--lost"); context.globalAlpha = 0.7;
  context.beginPath(); context.moveTo(PAD, y(lanes[0].found)); context.lineTo(w - PAD, y(lanes[0].found)); context.stroke();
  context.setLineDash([]); context.globalAlpha = 1;
  context.textAlign = "right";
  context.fillText("score 1", w - PAD, y(1) + 12);
  context.fillText(`found from ${lanes[0].found}`, w - PAD, y(lanes[0].found) - 4);
  context.textAlign = "left";
  context.fillStyle = css("--raised"); context.beginPath(); context.roundRect(PAD, BAR - 3, w - 2 * PAD, 6, 3); context.fill();
  const step = Math.max(1, (w - 2 * PAD) / Math.max(1, count() - 1));
  lanes.forEach((_, lane) => {
    const positions = [...S.rows[lane].keys()].sort((a, b) => a - b), color = laneColor(lane);
    const bar = lanes.length > 1 ? BAR - 3 + 3 * lane : BAR - 3, thick = lanes.length > 1 ? 3 : 6;
    for (const position of positions) {
      const state = stateOf(row(lane, position));
      context.fillStyle = state === "lost" ? css("--lost") : state === "unsure" ? css("--unsure") : color;
      context.fillRect(plotX(position, w) - step / 2, bar, step + 0.6, thick);
    }
    context.fillStyle = css("--lost"); context.globalAlpha = 0.13;
    for (const [first, last] of pieces(positions.filter((p) => stateOf(row(lane, p)) === "lost"), 1)) {
      context.fillRect(plotX(first, w) - step / 2, top, plotX(last, w) - plotX(first, w) + step, low - top);
    }
    context.globalAlpha = 1;
    drawCurve(context, positions.filter((p) => scoreOf(row(lane, p)) !== null), (p) => plotX(p, w), (p) => y(scoreOf(row(lane, p))), low, color);
  });
  for (const [position] of S.about.given) {
    const x = plotX(position, w);
    context.fillStyle = css("--text"); context.beginPath(); context.moveTo(x, BAR - 8); context.lineTo(x + 6, BAR); context.lineTo(x, BAR + 8); context.lineTo(x - 6, BAR); context.fill();
    context.strokeStyle = css("--surface"); context.lineWidth = 1.5; context.stroke();
  }
  const x = plotX(S.at, w);
  context.strokeStyle = css("--text"); context.lineWidth = 1.5; context.beginPath(); context.moveTo(x, BAR); context.lineTo(x, h - 6); context.stroke();
  context.fillStyle = css("--text"); context.beginPath(); context.arc(x, BAR, 6.5, 0, 7); context.fill();
  context.lineWidth = 2; context.strokeStyle = css("--surface"); context.stroke();
}

/** First and last of the runs in which neighbours are at most so far apart. */
function pieces(positions, gap) {
  const found = [];
  for (const position of positions) {
    const last = found[found.length - 1];
    if (last && position - last[1] <= gap) last[1] = position; else found.push([position, position]);
  }
  return found;
}

function drawCurve(context, positions, x, y, low, color) {
  for (const [first, last] of pieces(positions, 2)) {
    const piece = positions.filter((p) => p >= first && p <= last);
    context.beginPath();
    piece.forEach((p, i) => (i ? context.lineTo(x(p), y(p)) : context.moveTo(x(p), y(p))));
    context.strokeStyle = color; context.lineWidth = 2; context.lineJoin = "round"; context.stroke();
    context.lineTo(x(last), low); context.lineTo(x(first), low); context.closePath();
    context.globalAlpha = 0.1; context.fillStyle = color; context.fill(); context.globalAlpha = 1;
  }
}

function scrub(event) {
  const box = $("timeline").getBoundingClientRect();
  return clamp(Math.round(((event.clientX - box.left - PAD) / (box.width - 2 * PAD)) * (count() - 1)), 0, count() - 1);
}

function setUpTimeline() {
  const line = $("timeline"), tip = $("tip");
  line.addEventListener("pointerdown", (event) => { line.setPointerCapture(event.pointerId); S.playing = false; jump(scrub(event)); });
  line.addEventListener("pointermove", (event) => {
    const position = scrub(event);
    if (line.hasPointerCapture(event.pointerId)) jump(position);
    const known = S.about.lanes.map((_, lane) => row(lane, position)).filter((r) => r && scoreOf(r) !== null).map((r) => scoreOf(r).toFixed(2));
    tip.textContent = [`frame ${position}`, clock(position), known.join(" | ")].filter(Boolean).join(" · ");
    tip.hidden = false;
    tip.style.left = `${clamp(event.clientX - line.getBoundingClientRect().left + 12, 4, line.clientWidth - tip.offsetWidth - 4)}px`;
  });
  line.addEventListener("pointerleave", () => { tip.hidden = true; });
}

function nextLost() {
  const lost = [];
  S.about.lanes.forEach((_, lane) => { for (const [position, r] of S.rows[lane]) if (stateOf(r) === "lost") lost.push(position); });
  const marks = pieces([...new Set(lost)].sort((a, b) => a - b), 1).map(([first]) => first);
  return marks.find((position) => position > S.at) ?? (marks.length ? marks[0] : -1);
}

// ---------------------------------------------------------------------------------------------- boxes by hand

function setUpDrawing() {
  views().forEach((view, lane) => {
    const canvas = view.querySelector("canvas");
    const point = (event) => {
      const p = place(canvas), box = canvas.getBoundingClientRect(), [width, height] = S.about.size;
      return [clamp((event.clientX - box.left - p.left) / p.scale, 0, width), clamp((event.clientY - box.top - p.top) / p.scale, 0, height)];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || !S.about || S.shown < 0) return;
      canvas.setPointerCapture(event.pointerId);
      const [x, y] = point(event), old = S.pending, reach = (event.pointerType === "touch" ? 24 : 11) / place(canvas).scale;
      const corner = old ? corners(old).findIndex(([cx, cy]) => Math.hypot(cx - x, cy - y) < reach) : -1;
      if (corner >= 0) S.drag = { kind: "draw", anchor: corners(old)[3 - corner] };
      else if (old && x > old.x && x < old.x + old.w && y > old.y && y < old.y + old.h) S.drag = { kind: "move", dx: x - old.x, dy: y - old.y };
      else { S.drag = { kind: "draw", anchor: [x, y] }; S.pending = { x, y, w: 0, h: 0, lane }; }
      S.follow = false; S.playing = false; S.at = S.shown; wanted = S.shown;
      drawAll(false);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!S.drag || !S.pending) return;
      const [x, y] = point(event), [width, height] = S.about.size;
      if (S.drag.kind === "move") {
        S.pending.x = clamp(x - S.drag.dx, 0, width - S.pending.w);
        S.pending.y = clamp(y - S.drag.dy, 0, height - S.pending.h);
      } else {
        const [ax, ay] = S.drag.anchor;
        Object.assign(S.pending, { x: Math.min(ax, x), y: Math.min(ay, y), w: Math.abs(x - ax), h: Math.abs(y - ay) });
      }
      drawFrame();
    });
    const end = () => {
      if (!S.drag) return;
      S.drag = null;
      if (S.pending && (S.pending.w < 3 || S.pending.h < 3)) S.pending = null; // a click
      drawAll(false);
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", () => { S.pending = null; end(); });
  });
}

async function confirmBox() {
  const box = S.pending;
  if (!box) return;
  const frame = S.at;
  if (await attempt(() => ask(`runs/${S.run}/boxes`, "POST", { frame, box: [box.x, box.y, box.w, box.h].map((v) => Math.round(v * 100) / 100) }))) {
    complain("");
    S.pending = null;
    S.follow = true;
    drawAll(false);
    views()[0].querySelector("canvas").focus({ preventScroll: true });
  }
}

function dropBox() { S.pending = null; S.drag = null; drawAll(false); }

function buildGiven() {
  $("given").replaceChildren(...S.about.given.map(([position, ...box], k) => {
    const item = make("li", ""), go = make("button", "jump"), gone = make("button", "icon", "×");
    go.append(make("b", "", `Frame ${position}`), make("span", "", box.map((v) => Math.round(v)).join(", ")));
    go.addEventListener("click", () => jump(position));
    gone.title = k ? "Take this correction back" : "Take this box back";
    gone.setAttribute("aria-label", gone.title);
    gone.addEventListener("click", () => attempt(() => ask(`runs/${S.run}/boxes/${position}`, "DELETE")));
    item.append(go, gone);
    return item;
  }));
  $("given-hint").textContent = S.about.given.length ? "Wrong somewhere? Draw a new box on that frame: tracking goes on from there." : "None yet. Draw one on the picture, on any frame.";
}

// ---------------------------------------------------------------------------------------------- trackers

function buildLanes() {
  const lanes = S.about.lanes.map(chosen);
  const send = (next) => attempt(() => ask(`runs/${S.run}/lanes`, "POST", { lanes: next.map(([bundle, backend]) => ({ bundle, backend })) }));
  const pick = (entries, value, name, change) => {
    const select = make("select", "");
    select.setAttribute("aria-label", name);
    entries.forEach(([key, text]) => select.add(new Option(text, key, false, String(key) === String(value))));
    select.addEventListener("change", () => change(select.value));
    return select;
  };
  $("lanes").replaceChildren(...lanes.map(([bundle, backend], lane) => {
    const line = make("div", "lane");
    const change = (next) => send(lanes.map((old, k) => (k === lane ? next : old)));
    line.append(
      make("i", `dot ${LANES[lane]}`),
      pick(S.home.bundles.map((b, k) => [k, b.name]), bundle, "Bundle", (value) => change([Number(value), backend])),
    );
    const gone = make("button", "icon", lanes.length > 1 ? "×" : "");
    gone.setAttribute("aria-label", "Remove this tracker");
    gone.hidden = lanes.length < 2;
    gone.addEventListener("click", () => send(lanes.filter((_, k) => k !== lane)));
    line.append(gone, pick(S.home.backends.map((b) => [b, b]), backend, "Backend", (value) => change([bundle, value])), make("p", ""));
    return line;
  }));
  $("compare").hidden = lanes.length > 1;
  $("lanes-plural").textContent = lanes.length > 1 ? "s, side by side" : "";
  $("compare").onclick = () => {
    const [bundle, backend] = lanes[0], others = S.home.backends.filter((b) => b !== "auto" && b !== backend && !S.about.lanes[0].description.toLowerCase().replace(/ /g, "").startsWith(b));
    send([...lanes, S.home.bundles.length > 1 ? [(bundle + 1) % S.home.bundles.length, backend] : [bundle, others[0] || backend]]);
  };
}

// ---------------------------------------------------------------------------------------------- downloads

function setUpDownloads() {
  const list = $("download-list"), button = $("download-button");
  const open = (state) => { list.hidden = !state; button.setAttribute("aria-expanded", state); };
  button.addEventListener("click", () => open(list.hidden));
  document.addEventListener("pointerdown", (event) => { if (!$("download").contains(event.target)) open(false); });
  list.querySelectorAll("a").forEach((link) => link.addEventListener("click", (event) => {
    if (!S.rows[0].size) { event.preventDefault(); complain("There are no results yet: draw a box first."); }
    setTimeout(() => open(false));
  }));
  $("download-video").addEventListener("click", () => attempt(() => ask(`runs/${S.run}/video`, "POST", {})));
}

function fetchVideo() {
  const link = make("a", "");
  link.href = `/api/runs/${S.run}/video`;
  link.download = "";
  link.click();
}

// ---------------------------------------------------------------------------------------------- gallery

const ICONS = {
  video: "M4 6h11v12H4zM15 10l5-3v10l-5-3", pictures: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4", camera: "M4 8h4l2-3h4l2 3h4v11H4zM12 16a3 3 0 1 0 0-6 3 3 0 0 0 0 6",
  stream: "M12 13v7M8.5 9.5a5 5 0 0 1 7 0M5.5 6.5a9.2 9.2 0 0 1 13 0M12 13.5h.01",
};
function icon(kind) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), path = document.createElementNS(svg.namespaceURI, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  path.setAttribute("d", ICONS[kind] || ICONS.video);
  svg.append(path);
  return svg;
}

function card(kind, name, about, tag, thumbnail, open) {
  const button = make("button", ""), thumb = make("div", "thumb"), text = make("div", "about");
  thumb.append(icon(kind));
  if (tag) thumb.append(make("span", "tag", tag));
  if (thumbnail) {
    const image = make("img", "");
    image.alt = ""; image.loading = "lazy"; image.src = thumbnail;
    image.addEventListener("load", () => image.classList.add("there"));
    image.addEventListener("error", () => image.remove());
    thumb.append(image);
  }
  text.append(make("b", "", name), make("span", "", about));
  button.append(thumb, text);
  button.title = name;
  button.addEventListener("click", open);
  return button;
}

async function showGallery() {
  S.run = 0; S.about = null; S.playing = false; S.pending = null;
  document.title = "spm-page";
  history.replaceState(null, "", "#");
  for (const id of ["studio", "source", "download"]) $(id).hidden = true;
  $("gallery").hidden = false;
  if (await attempt(async () => { S.home = await ask("state"); })) buildGallery();
  $("loading").hidden = true;
}

function buildGallery() {
  const { sources, runs, limits } = S.home, kinds = { video: "", pictures: "pictures", stream: "live", camera: "live" };
  $("open-runs").hidden = !runs.length;
  $("run-cards").replaceChildren(...runs.slice().reverse().map((run) =>
    card("video", run.name, `${run.frames} frames · ${run.state}`, "open", `/api/runs/${run.run}/frames/0.jpg`, () => openRun(run.run))));
  const list = () => {
    const text = $("filter").value.toLowerCase(), found = sources.filter((s) => `${s.folder}/${s.name}`.toLowerCase().includes(text));
    $("cards").replaceChildren(...found.map((s) => {
      const live = s.kind === "stream" || s.kind === "camera", where = `place=${s.place}&path=${encodeURIComponent(s.path)}`;
      return card(s.kind, s.name, s.folder || s.kind, kinds[s.kind], live ? "" : `/api/thumbnail?${where}`, () => openSource(s));
    }));
    $("source-count").textContent = sources.length ? `${found.length}` : "";
  };
  $("filter").hidden = sources.length < 9;
  $("filter").oninput = list;
  $("nothing").hidden = sources.length > 0;
  $("drop-limit").textContent = `(up to ${Math.round(limits.upload / 1e6)} MB)`;
  $("drop").hidden = !limits.upload;
  list();
}

async function openSource(source) {
  veil(true);
  await attempt(async () => { const { run } = await ask("runs", "POST", { place: source.place, path: source.path }); await openRun(run); });
  veil(false);
}

function veil(state) { $("loading").className = state ? "veil thin" : "veil"; $("loading").hidden = !state; }

async function openRun(run, frame) {
  complain("");
  if (!S.home) S.home = await ask("state");
  Object.assign(S, { run, about: null, mark: 0, version: -1, at: frame || 0, shown: -1, follow: frame === undefined, pending: null });
  S.rows.forEach((rows) => rows.clear());
  pictures.clear();
  const news = await ask(`runs/${run}?mark=0&version=-1`);
  for (const id of ["studio", "source", "download"]) $(id).hidden = false;
  for (const link of $("download-list").querySelectorAll("a")) link.href = `/api/runs/${run}/results.${link.dataset.kind}`;
  $("gallery").hidden = true;
  $("loading").hidden = true;
  take(news);
  if (!S.follow || !S.about.given.length) wish(S.at);
  remember();
  poll(run);
}

function upload(file) {
  const bar = $("drop-bar"), request = new XMLHttpRequest();
  if (file.size > S.home.limits.upload) return complain(`${file.name} has ${Math.round(file.size / 1e6)} MB; uploads are limited to ${Math.round(S.home.limits.upload / 1e6)} MB: start spm-page with its folder.`);
  bar.parentElement.hidden = false;
  $("drop-text").textContent = `Sending ${file.name} …`;
  request.open("PUT", `/api/uploads/${encodeURIComponent(file.name)}`);
  request.setRequestHeader("X-Spm-Page", "1");
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => { bar.style.width = `${(100 * event.loaded) / event.total}%`; });
  request.addEventListener("loadend", () => {
    bar.parentElement.hidden = true;
    $("drop-text").textContent = "Drop a video here";
    if (request.status === 200) openSource(request.response);
    else complain((request.response && request.response.error) || "The upload did not arrive.");
  });
  request.send(file);
}

// ---------------------------------------------------------------------------------------------- everything else

function setUpKeys() {
  const keys = {
    " ": play, ArrowLeft: (e) => jump(S.at - (e.shiftKey ? 10 : 1)), ArrowRight: (e) => jump(S.at + (e.shiftKey ? 10 : 1)),
    Home: () => jump(0), End: toNewest, Enter: confirmBox, Escape: dropBox, l: () => nextLost() >= 0 && jump(nextLost()), t: togglePause,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || $("help").open) return;
    if (event.key === "?") return $("help").showModal();
    const act = S.about && keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || (event.target.tagName === "BUTTON" && (event.key === " " || event.key === "Enter"))) return;
    event.preventDefault();
    act(event);
  });
}

const toNewest = () => jump(S.about.given.length ? newest() : count() - 1, true);
const togglePause = () => attempt(() => ask(`runs/${S.run}/pause`, "POST", { pause: S.about.state === "tracking" || S.about.state === "loading" }));

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  if (S.about) drawAll(false);
}

function setUp() {
  document.documentElement.dataset.theme = localStorage.getItem("theme") || (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
  $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  $("home").addEventListener("click", showGallery);
  $("banner-close").addEventListener("click", () => complain(""));
  $("help-button").addEventListener("click", () => $("help").showModal());
  const buttons = { first: () => jump(0), back: () => jump(S.at - 1), play, forth: () => jump(S.at + 1), last: toNewest, "next-lost": () => jump(nextLost()), pause: togglePause, "confirm-go": confirmBox, "confirm-no": dropBox };
  for (const [id, act] of Object.entries(buttons)) $(id).addEventListener("click", act);
  const drop = $("drop");
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { drop.classList.remove("over"); if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]); });
  drop.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") $("file").click(); });
  $("file").addEventListener("change", () => { if ($("file").files[0]) upload($("file").files[0]); $("file").value = ""; });
  setUpTimeline(); setUpDrawing(); setUpDownloads(); setUpKeys();
  new ResizeObserver(() => S.about && drawAll(false)).observe($("stage"));
}

async function start() {
  setUp();
  const place = new URLSearchParams(location.hash.slice(1)), run = Number(place.get("run"));
  if (run && (await openRun(run, place.has("frame") ? Number(place.get("frame")) || 0 : undefined).then(() => true, () => false))) return;
  showGallery();
}

start();
