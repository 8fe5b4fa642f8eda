"use strict";
// Draws the report from the JSON in #data. Text goes into the page as text nodes only, never as HTML.
// Keys of the data (facecam/archive/digest.py):
//   people: n name, u null | number of an unknown one | -1 all without a number, g pictures, t seconds, c times (faces of photos),
//           v videos, p photos
//   files:  n name, k "v" | "p", h link, o link of the original, d seconds, z player's time at 0, x damage, l lanes:
//           i person, k picture, t seconds, c faces, s [start, end, similarity, ...]
//   nameless: [picture, file, start], pairs: [person, person, seconds, photos]
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { people, files, pictures } = data;
  const CHUNK = 60, CARDS = 24, TIMES = 500;
  const $ = (id) => document.getElementById(id);

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") element.className = value;
      else if (key === "on") for (const [type, run] of Object.entries(value)) element.addEventListener(type, run);
      else if (key === "who") element.style.setProperty("--who", colour(value));
      else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
      else element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }
  const bdi = (text, className) => make("bdi", { class: className || "" }, text);

  // Colours a golden angle apart: neighbours in the list never look alike. Strangers are pale.
  function colour(person) {
    if (people[person].u === -1) return "var(--nobody)";
    const pale = people[person].u !== null ? "26%" : "var(--sat)";
    return `hsl(${Math.round((212 + person * 137.508) % 360)} ${pale} var(--light))`;
  }
  function clock(seconds, exact) {
    const whole = exact ? Math.floor(seconds) : Math.round(seconds);
    const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = String(whole % 60).padStart(2, "0");
    const tail = exact ? "." + Math.floor((seconds - whole) * 10 + 1e-6) : "";
    return (h ? `${h}:${String(m).padStart(2, "0")}` : String(m)) + ":" + s + tail;
  }
  const span = (seconds) => seconds < 59.95 ? `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`
    : seconds < 3600 ? clock(seconds) + " min" : seconds < 36000 ? clock(seconds).slice(0, -3) + " h"
    : Math.round(seconds / 3600).toLocaleString("en") + " h";
  const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

  function face(picture, person, size) {
    if (picture < 0 || picture === undefined)
      return make("span", { class: "face none", who: person, "aria-hidden": "true" }, [...people[person].n][0] || "?");
    const image = make("img", { class: "face", who: person, alt: "", loading: "lazy", width: size, height: size });
    image.src = "data:image/jpeg;base64," + pictures[picture];
    return image;
  }
  function amount(person) {
    const parts = [];
    if (person.v) parts.push(`${span(person.t)} · ${plural(person.c, "time")}`);
    if (person.p) parts.push(plural(person.p, "photo"));
    return parts.map((part) => make("span", { class: "sub" }, part));
  }
  // Shows the first few of a long list and a button for the rest.
  function some(box, items, draw, many, word) {
    items.slice(0, many).forEach((item) => box.append(draw(item)));
    if (items.length <= many) return;
    const button = make("button", { class: "all", type: "button" }, `Show all ${plural(items.length, word)}`);
    button.addEventListener("click", () => {
      items.slice(many).forEach((item) => box.append(draw(item)));
      button.remove();
    });
    box.after(button);
  }

  // --- who, together, unknown -----------------------------------------------------------------------------
  const all = people.map((person, i) => ({ ...person, i }));
  const named = all.filter((person) => person.u === null);
  const strangers = all.filter((person) => person.u !== null && person.u !== -1);
  const cards = new Map();

  function card(person, ...content) {
    const button = make("button", { class: "card", type: "button", "aria-pressed": "false" }, ...content);
    button.addEventListener("click", () => choose(chosen === person.i ? null : person.i, true));
    cards.set(person.i, button);
    return button;
  }
  const words = (person) => make("span", { class: "text", title: person.n },
    bdi(person.n, "name"), ...amount(person));

  function overview() {
    const videos = files.filter((file) => file.k === "v");
    const parts = [];
    if (videos.length) parts.push(`${span(videos.reduce((sum, file) => sum + file.d, 0))} of video`);
    parts.push(named.length ? `${named.length} ${named.length === 1 ? "person" : "people"} named` : "nobody named");
    if (strangers.length) parts.push(`${strangers.length} unknown`);
    if (data.failures.length) parts.push(`${data.failures.length} not labelled`);
    $("facts").textContent = parts.join(" · ");

    for (const line of data.failures) $("failures").querySelector("ul").append(make("li", {}, bdi(line)));
    $("failures").hidden = !data.failures.length;

    some($("people").querySelector(".cards"), named,
      (person) => card(person, face(person.g[0], person.i, 52), words(person)), CARDS, "person");
    $("people").hidden = !named.length;

    const most = Math.max(...data.pairs.map((pair) => pair[2] || pair[3]), 0);
    some($("together").querySelector("ol"), data.pairs, ([a, b, seconds, photos]) => {
      const much = [seconds ? span(seconds) : "", photos ? plural(photos, "photo") : ""].filter(Boolean).join(", ");
      const width = `${Math.max(2, 100 * (seconds || photos) / most)}%`;
      return make("li", {}, make("span", { class: "pair", title: `${people[a].n} and ${people[b].n}` }, bdi(people[a].n), " and ", bdi(people[b].n)),
        make("span", { class: "bar", "aria-hidden": "true" }, make("i", { style: { width } })),
        make("span", { class: "much" }, much));
    }, 12, "pair");
    $("together").hidden = !data.pairs.length;

    some($("unknown").querySelector(".cards"), strangers, (person) => {
      const row = make("span", { class: "row" }, ...person.g.map((picture) => face(picture, person.i, 52)));
      if (!person.g.length) row.append(face(-1, person.i, 52));
      const one = card(person, row, words(person));
      one.classList.add("stranger");
      return one;
    }, CARDS, "stranger");
    if (strangers.length) $("unknown").querySelector(".hint").append(
      "You know one of them? If the run kept an archive index: ",
      make("code", {}, `facecam people name "${strangers[0].n}" NAME --index archive.db`));
    $("unknown").hidden = !strangers.length;

    some($("nameless").querySelector(".faces"), data.nameless, ([picture, file, start]) => {
      const place = files[file].k === "v" ? ` at ${clock(start)}` : "";
      const label = `Unknown face in ${files[file].n}${place}`;
      const nobody = people.findIndex((person) => person.u === -1);
      return make("button", { type: "button", title: label, "aria-label": label, on: { click: () => show(file, start) } },
        face(picture, nobody, 52));
    }, 60, "face");
    $("nameless").hidden = !data.nameless.length;
  }

  // --- the list of files ----------------------------------------------------------------------------------
  let chosen = null, shown = [], drawn = 0;
  const observer = new IntersectionObserver((seen) => {
    if (seen.some((one) => one.isIntersecting) && drawn < shown.length) more();
  }, { rootMargin: "600px" });
  const rows = new Map();
  const seconds = (file) => file.l.reduce((sum, lane) => sum + (file.k === "v" ? lane.t : lane.c / 100), 0);
  const collator = new Intl.Collator(undefined, { numeric: true });
  const orders = {
    name: (a, b) => collator.compare(files[a].n, files[b].n),
    seen: (a, b) => (chosen === null ? seconds(files[b]) - seconds(files[a]) : mine(b) - mine(a)),
    people: (a, b) => files[b].l.length - files[a].l.length,
    long: (a, b) => files[b].d - files[a].d,
  };
  function mine(file) {
    const lane = files[file].l.find((one) => one.i === chosen);
    return lane ? (files[file].k === "v" ? lane.t : 0.01) : 0;
  }
  const haystacks = files.map((file) => [file.n, ...file.l.map((lane) => people[lane.i].n)].join("\n").toLocaleLowerCase());

  function filter() {
    const needles = $("search").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    shown = files.map((_, i) => i).filter((i) => needles.every((needle) => haystacks[i].includes(needle))
      && (chosen === null || files[i].l.some((lane) => lane.i === chosen)));
    const order = orders[$("sort").value];
    if (order) shown.sort((a, b) => order(a, b) || a - b);
    $("count").textContent = shown.length === files.length ? plural(files.length, "file")
      : `${shown.length} of ${plural(files.length, "file")}`;
    drawn = 0;
    $("list").replaceChildren();
    more();
  }
  function more() {
    for (const end = Math.min(shown.length, drawn + CHUNK); drawn < end; drawn++) $("list").append(row(shown[drawn]));
    $("more").hidden = drawn >= shown.length;
    // Observed anew: an end that is still in view after its rows were drawn brings no other event.
    observer.unobserve($("more"));
    observer.observe($("more"));
  }
  function choose(person, scroll) {
    if (chosen !== null && cards.has(chosen)) cards.get(chosen).setAttribute("aria-pressed", "false");
    chosen = person;
    $("clear").hidden = person === null;
    if (person !== null) {
      if (cards.has(person)) cards.get(person).setAttribute("aria-pressed", "true");
      $("clear").replaceChildren("Only ", bdi(people[person].n), " ×");
      $("clear").setAttribute("aria-label", `Show all files, not only those with ${people[person].n}`);
    }
    filter();
    if (scroll && person !== null) $("files").scrollIntoView({ behavior: "smooth" });
  }
  const percent = (part, whole) => `${whole > 0 ? Math.min(100, 100 * part / whole) : 0}%`;

  function row(number) {
    if (rows.has(number)) return rows.get(number);
    const file = files[number];
    const cut = file.n.lastIndexOf("/") + 1;
    const title = make("span", { class: "title" }, make("bdi", {},
      make("span", { class: "folder" }, file.n.slice(0, cut)), make("span", { class: "base" }, file.n.slice(cut))));
    if (file.x) title.append(make("span", { class: "warn" }, "damaged or cut short"));
    const chips = make("span", { class: "chips" });
    file.l.slice(0, 5).forEach((lane) => chips.append(make("span", { class: "chip", who: lane.i }, bdi(people[lane.i].n))));
    if (file.l.length > 5) chips.append(`+${file.l.length - 5}`);
    if (!file.l.length) chips.append("nobody");
    const summary = make("summary", {}, title, chips,
      make("span", { class: "long" }, file.k === "v" ? clock(file.d) : "photo"));
    if (file.k === "v" && file.l.length) {
      const strip = make("span", { class: "strip", "aria-hidden": "true" });
      for (const lane of file.l.slice().reverse()) for (let k = 0; k < Math.min(lane.s.length, 600); k += 3)
        strip.append(make("i", { who: lane.i, style:
          { left: percent(lane.s[k], file.d), width: percent(lane.s[k + 1] - lane.s[k], file.d) } }));
      summary.append(strip);
    }
    const details = make("details", { class: "file" }, summary);
    details.addEventListener("toggle", () => { if (details.open) open(number); });
    rows.set(number, details);
    return details;
  }

  // --- one file -------------------------------------------------------------------------------------------
  const players = new Map();

  function open(number) {
    if (players.has(number)) return players.get(number);
    const file = files[number], body = make("div", { class: "body" });
    const player = file.k === "v" ? video(file, body) : photo(file, body);
    players.set(number, player);
    row(number).append(body);
    return player;
  }
  function show(number, start) {
    if (!shown.includes(number)) { $("search").value = ""; choose(null); }
    while (!row(number).isConnected && drawn < shown.length) more();
    row(number).open = true;
    open(number).seek(start);
    row(number).scrollIntoView({ behavior: "smooth", block: "start" });
  }
  function links(file, kind) {
    const line = make("p", { class: "link" }, make("a", { href: file.h, target: "_blank" }, `Open the ${kind}`));
    if (file.o) line.append(" · ", make("a", { href: file.o, target: "_blank" }, "the original"));
    return line;
  }
  function photo(file, body) {
    const image = make("img", { src: file.h, alt: "", loading: "lazy" });
    const screen = make("div", { class: "screen" }, image, links(file, "photo"));
    image.addEventListener("error", () => { image.remove(); screen.prepend("This browser cannot show the picture here."); });
    const list = make("div", { class: "photo-faces" });
    for (const lane of file.l) list.append(make("span", { class: "chip", who: lane.i },
      face(lane.k, lane.i, 38), bdi(people[lane.i].n), lane.c > 1 ? `×${lane.c}` : ""));
    body.append(screen, list);
    return { seek() {} };
  }
  function video(file, body) {
    const media = make("video", { controls: true, preload: "metadata", playsinline: true });
    const note = links(file, "video"), screen = make("div", { class: "screen" }, media, note);
    media.addEventListener("error", () => {
      if (!media.isConnected) return;
      media.remove();
      note.prepend("This browser cannot play the video here, or it has been moved. ");
    });
    media.src = file.h;
    function seek(time) {
      if (!media.isConnected) return;
      media.currentTime = time + file.z;
      const playing = media.play();
      if (playing) playing.catch(() => {});
    }
    const head = make("i", { class: "head", hidden: true });
    const lanes = make("div", { class: "lanes" });
    const entries = file.l.map((lane) => ({ lane, element: laneRow(file, lane, seek) }));
    lanes.append(...entries.map((entry) => entry.element), axis(file));
    media.addEventListener("timeupdate", () => {
      const now = media.currentTime - file.z, line = lanes.querySelector(".line");
      if (line) {
        head.hidden = false;
        head.style.left = `${line.offsetLeft + line.offsetWidth * Math.min(1, Math.max(0, now / (file.d || 1)))}px`;
      }
      for (const { lane, element } of entries) {
        let there = false;
        for (let k = 0; k < lane.s.length && !there; k += 3) there = lane.s[k] <= now && now < lane.s[k + 1];
        element.classList.toggle("now", there);
      }
    });
    if (entries.length) lanes.append(head);
    body.append(screen, lanes);
    if (entries.length) body.append(times(file, seek));
    return { seek };
  }
  function jump(file, start, seek, attributes, ...content) {
    const link = make("a", { href: `${file.h}#t=${+(start + file.z).toFixed(2)}`, target: "_blank", ...attributes }, ...content);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      seek(start);
      row(files.indexOf(file)).scrollIntoView({ behavior: "smooth", block: "nearest" });
    });
    return link;
  }
  function laneRow(file, lane, seek) {
    const person = people[lane.i], line = make("div", { class: "line" });
    for (let k = 0; k < lane.s.length; k += 3) {
      const [start, end, similarity] = lane.s.slice(k, k + 3);
      const label = `${person.n}, ${clock(start, true)} to ${clock(end, true)}`
        + (similarity !== null ? `, similarity ${similarity.toFixed(2)}` : "");
      line.append(jump(file, start, seek, { title: label, "aria-label": label, style:
        { left: `min(${percent(start, file.d)}, calc(100% - 4px))`, width: percent(end - start, file.d) } }));
    }
    const count = lane.s.length / 3;
    const sub = `${span(lane.t)}${count > 1 ? `, ${count} times` : ""}`;
    return make("div", { class: "lane", who: lane.i },
      make("div", { class: "who" }, face(lane.k, lane.i, 38),
        make("div", { class: "text", title: person.n }, bdi(person.n, "name"), make("span", { class: "sub" }, sub))), line);
  }
  function axis(file) {
    const box = make("div", {});
    const parts = file.d >= 4 ? 4 : 2;
    for (let k = 0; k <= parts; k++)
      box.append(make("span", { style: { left: percent(k, parts) } }, clock(file.d * k / parts, file.d < 20)));
    return make("div", { class: "axis", "aria-hidden": "true" }, box);
  }
  function times(file, seek) {
    const all = [];
    for (const lane of file.l) for (let k = 0; k < lane.s.length; k += 3) all.push([lane.s[k], lane.s[k + 1], lane.i]);
    all.sort((a, b) => a[0] - b[0]);
    const details = make("details", { class: "times" }, make("summary", {}, `All ${plural(all.length, "time")} as a list`));
    details.addEventListener("toggle", () => {
      if (details.children.length > 1) return;
      const list = make("ul", {});
      details.append(list);
      some(list, all, ([start, end, i]) => make("li", {},
        jump(file, start, seek, {}, `${clock(start, true)} – ${clock(end, true)}`), " ", bdi(people[i].n)), TIMES, "time");
    });
    return details;
  }

  // --- start ----------------------------------------------------------------------------------------------
  overview();
  if (files.length < 2) document.querySelector(".tools").hidden = true;
  if (files.length === 1) document.querySelector("#people .hint").hidden = true;
  let timer = 0;
  $("search").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(filter, 80); });
  $("sort").addEventListener("change", filter);
  $("clear").addEventListener("click", () => choose(null));
  filter();
  if (files.length === 1) row(0).open = true;
})();
