// Comfort on the audit log's pages. All of them work without this: each state of the log is
// an address, which the server renders. So what this does is to ask for such an address,
// take a part out of the page that comes, and put it in the place of the one before. Nothing
// from the network is ever made into HTML in another way than by parsing our own pages.
"use strict";

(() => {
	const root = document.documentElement;
	root.classList.add("js");

	// The theme is set before anything is drawn.
	const stored = {
		get(name) { try { return localStorage.getItem(name); } catch { return null; } },
		set(name, value) { try { localStorage.setItem(name, value); } catch { /* private window */ } },
	};
	const theme = stored.get("audit-theme");
	if (theme === "light" || theme === "dark") root.dataset.theme = theme;

	const $ = (selector, within = document) => within.querySelector(selector);
	const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
	const say = (text) => { const live = $("#live"); if (live) live.textContent = text; };
	const wide = matchMedia("(min-width: 75.01rem)");

	document.addEventListener("DOMContentLoaded", () => {
		$("#theme")?.addEventListener("click", () => {
			const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
			root.dataset.theme = dark ? "light" : "dark";
			stored.set("audit-theme", root.dataset.theme);
			say(dark ? "Light theme" : "Dark theme");
		});
		document.addEventListener("click", closeMenus);
		const article = $("main > #entry");
		if (article) dressEntry(article, $("main"));
		if ($('main[data-page="log"]')) startLog();
		else reloadElsewhere();
	});

	// reloadElsewhere is for a page that was loaded at an address which the log's page had
	// given itself: going back from there changes the address alone.
	function reloadElsewhere() {
		const here = location.pathname;
		addEventListener("popstate", () => { if (location.pathname !== here) location.reload(); });
	}

	// plain is an address without its fragment.
	function plain(address) {
		const url = new URL(address, location.href);
		url.hash = "";
		return url.href;
	}

	// closeMenus closes each open menu but the one that was clicked into.
	function closeMenus(event) {
		for (const menu of $$("details.menu[open]")) {
			if (!event || !menu.contains(event.target)) menu.open = false;
		}
	}

	// ---- Clipboard ----

	async function copy(text) {
		try {
			await navigator.clipboard.writeText(text);
			return true;
		} catch { // not a secure context, or not allowed
			const area = document.createElement("textarea");
			area.value = text;
			area.className = "sr";
			const before = document.activeElement;
			(before?.closest("dialog") ?? document.body).append(area);
			area.select();
			let done = false;
			try { done = document.execCommand("copy"); } catch { /* said below */ }
			area.remove();
			before?.focus();
			return done;
		}
	}

	// ---- An entry ----

	// dressEntry makes tabs of an entry's parts, and its copy button work.
	function dressEntry(article, within) {
		const nav = $(".tabs", article);
		const parts = ["overview", "json"].map((id) => $("#" + id, article));
		const tabs = $$("a", nav).map((link, i) => {
			const tab = document.createElement("button");
			tab.type = "button";
			tab.textContent = link.textContent;
			tab.id = "tab-" + parts[i].id;
			tab.setAttribute("role", "tab");
			tab.setAttribute("aria-controls", parts[i].id);
			parts[i].setAttribute("role", "tabpanel");
			parts[i].removeAttribute("aria-label");
			parts[i].setAttribute("aria-labelledby", tab.id);
			link.replaceWith(tab);
			return tab;
		});
		nav.setAttribute("role", "tablist");
		const choose = (chosen) => tabs.forEach((tab, i) => {
			tab.setAttribute("aria-selected", String(i === chosen));
			tab.tabIndex = i === chosen ? 0 : -1;
			parts[i].hidden = i !== chosen;
			if (i === chosen) within.dataset.tab = String(i);
		});
		tabs.forEach((tab, i) => tab.addEventListener("click", () => choose(i)));
		nav.addEventListener("keydown", (event) => {
			if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
			const next = 1 - tabs.indexOf(document.activeElement);
			choose(next);
			tabs[next].focus();
			event.preventDefault();
			event.stopPropagation();
		});
		choose(Number(within.dataset.tab) || (location.hash === "#json" ? 1 : 0));
		const button = $(".copy", article);
		button.addEventListener("click", async () => {
			const done = await copy($("pre code", parts[1]).textContent);
			button.textContent = done ? "Copied" : "Not copied";
			say(done ? "The entry's JSON is copied" : "The browser does not allow copying");
			setTimeout(() => { button.textContent = "Copy"; }, 2000);
		});
	}

	// ---- The log ----

	function startLog() {
		const panel = $("#panel");
		const logPath = location.pathname;
		let shown = plain(location.href); // the address of what <main> shows
		let opener = null; // the id of the row that the panel shows
		let at = null; // the id of the row that the keys are at
		let asked = 0; // counts what was asked for, so that a late answer is dropped
		let asking = null;
		let goes = 0; // counts what was asked for as the log
		const selected = new Map(); // id → address of the entry's JSON, over all pages

		const rows = () => $$("tr.entry");
		const row = (id) => rows().find((r) => r.dataset.id === id);

		// ask is the page at an address, parsed; null if another one was asked for since. It
		// throws if the answer is no page of ours.
		async function ask(url) {
			asking?.abort();
			asking = new AbortController();
			const mine = ++asked;
			try {
				const answer = await fetch(url, { signal: asking.signal, credentials: "same-origin", headers: { Accept: "text/html" } });
				if (new URL(answer.url).origin !== location.origin || !(answer.headers.get("Content-Type") ?? "").startsWith("text/html")) throw new Error("no page");
				const text = await answer.text();
				return mine === asked ? new DOMParser().parseFromString(text, "text/html") : null;
			} catch (error) {
				if (mine !== asked) return null;
				throw error;
			}
		}

		// go shows the log at an address. What the browser cannot fetch it is sent to.
		async function go(url, push = true) {
			const main = $("main");
			const mine = ++goes;
			main.setAttribute("aria-busy", "true");
			let page;
			try {
				page = await ask(url);
				if (page && !$("main", page)) throw new Error("no page");
			} catch {
				location.assign(url);
				return;
			}
			if (!page) {
				if (mine === goes) { // given up for an entry: the form is that of what is shown
					main.removeAttribute("aria-busy");
					$("#filters")?.reset();
				}
				return;
			}
			if (push) history.pushState(null, "", url);
			shown = plain(url);
			closePanel();
			swap(main, document.adoptNode($("main", page)));
			document.title = page.title;
			say($("main").dataset.announce ?? "");
		}

		// swap keeps what a reader opened, where they scrolled to and where their focus is.
		function swap(before, after) {
			const open = new Map($$("details[data-keep]", before).map((d) => [d.dataset.keep, d.open]));
			const scrolled = new Map($$("[data-scroll]", before).map((e) => [e.dataset.scroll, e.scrollTop]));
			const focus = document.activeElement;
			const same = before.contains(focus) && focusedAgain(focus);
			const moved = before.dataset.cursor !== after.dataset.cursor;
			before.replaceWith(after);
			for (const d of $$("details[data-keep]")) {
				if (d.dataset.keep !== "custom" && open.has(d.dataset.keep)) d.open = open.get(d.dataset.keep);
			}
			for (const e of $$("[data-scroll]")) e.scrollTop = scrolled.get(e.dataset.scroll) ?? 0;
			dressLog();
			const again = same && $$(same.selector).find(same.test);
			if (again) {
				again.focus({ preventScroll: true });
				if (same.cursor !== undefined && again.type !== "datetime-local") try { again.setSelectionRange(same.cursor, same.cursor); } catch { /* has none */ }
			}
			if (moved) scrollTo(0, 0);
		}

		function focusedAgain(e) {
			if (e.id) return { selector: "#" + CSS.escape(e.id), test: () => true, cursor: e.type === "search" ? e.selectionStart : undefined };
			if (e.name) return { selector: "input", test: (o) => o.name === e.name && o.type === e.type && (o.type !== "checkbox" || o.value === e.value) };
			if (e.tagName === "A") return { selector: "a", test: (o) => o.textContent === e.textContent && o.parentNode.className === e.parentNode.className };
			return null;
		}

		// dressLog gives a <main> that has just come what the server cannot.
		function dressLog() {
			if (!$('main[data-page="log"]')) { updateSelected(); return; }
			offerZone();
			dressBars();
			at = row(at) ? at : null;
			for (const r of rows()) {
				const box = $(".c-select input", r);
				if (box) box.checked = selected.has(r.dataset.id);
				r.classList.toggle("chosen", selected.has(r.dataset.id));
			}
			mark();
			updateSelected();
		}

		// offerZone puts the browser's own zone among those to choose.
		function offerZone() {
			const select = $("#zone");
			const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
			if (!select || !own) return;
			let option = [...select.options].find((o) => o.value === own);
			if (!option) {
				option = document.createElement("option");
				option.value = own;
				select.prepend(option);
			}
			option.textContent = `Local time (${own})`;
		}

		// ---- Filters ----

		// submit makes an address of the form's values. Values that are empty, or were shown
		// and not touched, do not become part of it.
		function submit() {
			const form = $("#filters");
			const query = new URLSearchParams();
			for (const [name, value] of new FormData(form)) {
				if (value && !(name === "tz" && value === "UTC")) query.append(name, value);
			}
			const times = $$('[name^="iso_timestamp_"]');
			if (times.every(untouched)) {
				for (const field of times) { // exactly as they were, also if the zone is another one now
					query.delete(field.name);
					if (field.dataset.exact) query.set(field.name, field.dataset.exact);
				}
			}
			if (times.some((field) => query.has(field.name))) query.delete("range");
			const search = query.toString();
			go(logPath + (search ? "?" + search : ""));
		}

		// untouched reports whether a field has what the server gave it, which a browser may
		// write in another way: without seconds that are zero.
		function untouched(field) {
			const given = document.createElement("input");
			given.type = field.type;
			given.value = field.defaultValue;
			return field.value === given.value;
		}

		document.addEventListener("submit", (event) => {
			if (event.target.id !== "filters") return;
			event.preventDefault();
			submit();
		});
		document.addEventListener("change", (event) => {
			const e = event.target;
			if (e.closest("tr.entry")) { select(e.closest("tr.entry"), e.checked); return; }
			if (e.form?.id === "filters" && (e.type === "checkbox" || e.tagName === "SELECT")) submit();
		});

		// ---- Links ----

		document.addEventListener("click", (event) => {
			if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
			const link = event.target.closest("a");
			if (link && !link.closest("dialog")) {
				const href = link.getAttribute("href");
				if (!href || href.startsWith("#") || link.hasAttribute("download")) return;
				const url = new URL(href, location.href);
				if (link.classList.contains("open")) {
					event.preventDefault();
					openEntry(link.closest("tr"));
				} else if (url.origin === location.origin && url.pathname === logPath && !link.closest(".top")) {
					event.preventDefault();
					go(url.href);
				}
				return;
			}
			const r = event.target.closest("tr.entry");
			if (!r || event.target.closest("input, button, summary") || String(getSelection())) return;
			const box = event.target.closest(".c-select") && $(".c-select input", r);
			if (box) box.click();
			else openEntry(r);
		});

		addEventListener("popstate", () => {
			if (location.pathname === logPath) {
				if (plain(location.href) === shown) closePanel();
				else go(location.href, false);
			} else {
				showEntry(location.href);
			}
		});

		// ---- The panel ----

		function openEntry(r, replace = false) {
			const link = $("a.open", r);
			if (!link) return;
			opener = at = r.dataset.id;
			mark();
			const url = link.href;
			if (replace || !panel.hidden) history.replaceState({ entry: true }, "", url);
			else history.pushState({ entry: true }, "", url);
			showEntry(url, !replace);
		}

		async function showEntry(url, focus = true) {
			let page;
			try {
				page = await ask(url);
				if (page && !$("main", page)) throw new Error("no page");
			} catch {
				location.assign(url);
				return;
			}
			if (!page) return;
			const opening = panel.hidden;
			const close = document.createElement("button");
			close.type = "button";
			close.className = "close icon-button";
			close.setAttribute("aria-label", "Close the entry");
			const shape = document.createElementNS("http://www.w3.org/2000/svg", "svg");
			const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
			for (const [name, value] of [["width", "14"], ["height", "14"], ["viewBox", "0 0 12 12"], ["aria-hidden", "true"]]) shape.setAttribute(name, value);
			use.setAttribute("href", "#s-close");
			shape.append(use);
			close.append(shape);
			close.addEventListener("click", leaveEntry);
			// An entry, or the state that says why there is none.
			const body = document.adoptNode($("#entry", page) ?? $("main > *", page));
			panel.replaceChildren(close, body);
			if (body.id === "entry") {
				dressEntry(body, panel);
			}
			panel.hidden = false;
			panel.scrollTop = 0;
			panel.classList.toggle("opening", opening);
			document.body.classList.add("with-panel");
			cover();
			document.title = page.title;
			const heading = $("h1", panel) ?? panel;
			heading.tabIndex = -1;
			if (focus) heading.focus({ preventScroll: true });
			else say(heading.textContent);
		}

		// leaveEntry goes back in the history to the log, if that is where the panel was opened.
		function leaveEntry() {
			if (history.state?.entry) history.back();
			else { history.replaceState(null, "", shown); closePanel(); }
		}

		function closePanel() {
			if (panel.hidden) return;
			const inside = panel.contains(document.activeElement) || document.activeElement === document.body;
			panel.hidden = true;
			panel.replaceChildren();
			document.body.classList.remove("with-panel");
			cover();
			const r = row(opener);
			if (inside && r) $("a.open", r)?.focus();
			const organization = $(".org")?.textContent;
			document.title = organization ? `Audit log · ${organization}` : "Audit log";
		}

		// cover takes what lies under the panel out of reach, where it covers all. Then the
		// panel is what the page is about; else its headings stand below the page's own.
		function cover() {
			const covered = !panel.hidden && !wide.matches;
			for (const e of $$("main, .foot, #selected")) e.inert = covered;
			if (covered) panel.setAttribute("role", "main");
			else panel.removeAttribute("role");
			for (const h of $$("h1, h2", panel)) {
				if (covered) h.removeAttribute("aria-level");
				else h.setAttribute("aria-level", h.tagName === "H1" ? "2" : "3");
			}
		}
		wide.addEventListener("change", cover);

		// ---- Selection ----

		function select(r, chosen) {
			if (!r?.dataset.api) return;
			if (chosen) selected.set(r.dataset.id, r.dataset.api);
			else selected.delete(r.dataset.id);
			r.classList.toggle("chosen", chosen);
			updateSelected();
		}

		function updateSelected(text) {
			$("#selected").hidden = selected.size === 0;
			document.body.classList.toggle("with-selected", selected.size > 0);
			$("#selected-count").textContent = text ?? (selected.size === 1 ? "1 selected" : `${selected.size} selected`);
		}

		$("#clear-selected").addEventListener("click", () => {
			selected.clear();
			dressLog();
			say("Nothing is selected");
		});

		$("#copy-selected").addEventListener("click", async (event) => {
			const button = event.currentTarget;
			button.disabled = true;
			const wanted = [...selected];
			const found = new Map();
			const failed = [];
			const next = async () => {
				for (let entry = wanted.shift(); entry; entry = wanted.shift()) {
					const [id, url] = entry;
					try {
						const answer = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } });
						if (!answer.ok) throw new Error(String(answer.status));
						found.set(id, JSON.parse(await answer.text()));
					} catch (error) {
						failed.push(`${id}: ${/^\d+$/.test(error.message) ? "status " + error.message : "no answer"}`);
					}
				}
			};
			const order = wanted.map(([id]) => id);
			await Promise.all([next(), next(), next(), next()]);
			const all = order.filter((id) => found.has(id)).map((id) => found.get(id));
			const done = all.length > 0 && await copy(JSON.stringify(all, null, 2));
			button.disabled = false;
			const text = (all.length === 0 ? "None copied" : done ? `${all.length} copied` : "The browser does not allow copying") + (failed.length ? `, ${failed.length} failed: ${failed.slice(0, 3).join("; ")}${failed.length > 3 ? "; …" : ""}` : "");
			updateSelected(text);
			say(text);
		});

		// ---- Keys ----

		function mark() {
			for (const r of rows()) r.classList.toggle("at", r.dataset.id === at);
		}

		function move(by) {
			const all = rows();
			if (!all.length) return;
			const now = all.findIndex((r) => r.dataset.id === at);
			const next = all[now < 0 ? 0 : Math.min(all.length - 1, Math.max(0, now + by))];
			at = next.dataset.id;
			mark();
			next.scrollIntoView({ block: "nearest" });
			if (panel.hidden) $("a.open", next)?.focus({ preventScroll: true });
			else openEntry(next, true);
		}

		const keys = $("#keys");
		$("#show-keys").addEventListener("click", () => keys.showModal());

		document.addEventListener("keydown", (event) => {
			if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
			const e = event.target;
			const typing = e.matches("input:not([type=checkbox]), textarea, select");
			if (event.key === "Escape") {
				if ($("details.menu[open]")) {
					const menu = $("details.menu[open]");
					menu.open = false;
					$("summary", menu).focus();
				} else if (!panel.hidden) leaveEntry();
				else if (typing) e.blur();
				return;
			}
			if (typing) return;
			const arrows = !e.closest("summary, .values, .bars, pre, [role=tablist], dialog") && e.type !== "checkbox";
			switch (event.key) {
			case "ArrowDown": if (!arrows) return; // falls through
			case "j": move(1); break;
			case "ArrowUp": if (!arrows) return; // falls through
			case "k": move(-1); break;
			case "Enter":
				if (e !== document.body && !e.closest("tr.entry input") || !row(at)) return;
				openEntry(row(at));
				break;
			case "x": {
				const r = e.closest("tr.entry") ?? row(at);
				const box = r && $(".c-select input", r);
				if (!box) return;
				box.checked = !box.checked;
				select(r, box.checked);
				break;
			}
			case "/": {
				const text = $("#text");
				if (!text) return;
				text.focus();
				text.select();
				break;
			}
			case "?": keys.showModal(); break;
			default: return;
			}
			event.preventDefault();
		});
		document.addEventListener("focusin", (event) => {
			const r = event.target.closest?.("tr.entry");
			if (r && r.dataset.id !== at) { at = r.dataset.id; mark(); }
		});

		// ---- The histogram ----

		// dressBars lets a reader drag over bars, and go along them by arrows: they are one
		// stop of the tab key and not seventy.
		function dressBars() {
			const svg = $("#bars");
			if (!svg) return;
			const bars = $$(".bar", svg);
			const links = $$("a", svg);
			links.forEach((a, i) => a.setAttribute("tabindex", i === links.length - 1 ? "0" : "-1"));
			svg.addEventListener("keydown", (event) => {
				const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
				const now = links.indexOf(document.activeElement);
				if (!step || now < 0) return;
				const next = links[now + step];
				event.preventDefault();
				if (!next) return;
				links[now].setAttribute("tabindex", "-1");
				next.setAttribute("tabindex", "0");
				next.focus();
			});

			let from = -1, to = -1, shade = null, dragged = false;
			const barAt = (event) => {
				const box = svg.getBoundingClientRect();
				return Math.min(bars.length - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * bars.length)));
			};
			const draw = () => {
				const [first, last] = [Math.min(from, to), Math.max(from, to)];
				shade.setAttribute("x", `${first / bars.length * 100}%`);
				shade.setAttribute("width", `${(last - first + 1) / bars.length * 100}%`);
			};
			const end = () => { shade?.remove(); shade = null; from = -1; };
			svg.addEventListener("dragstart", (event) => event.preventDefault());
			svg.addEventListener("pointerdown", (event) => {
				if (event.button !== 0) return;
				from = to = barAt(event);
				dragged = false;
			});
			svg.addEventListener("pointermove", (event) => {
				if (from < 0) return;
				to = barAt(event);
				if (to === from && !shade) return;
				if (!shade) {
					dragged = true;
					svg.setPointerCapture(event.pointerId);
					shade = document.createElementNS("http://www.w3.org/2000/svg", "rect");
					shade.setAttribute("class", "drag");
					shade.setAttribute("y", "0");
					shade.setAttribute("height", svg.getAttribute("height"));
					svg.append(shade);
				}
				draw();
			});
			svg.addEventListener("pointerup", () => {
				if (shade) between(bars[Math.min(from, to)].dataset.from, bars[Math.max(from, to)].dataset.to);
				end();
			});
			svg.addEventListener("pointercancel", end);
			svg.addEventListener("click", (event) => { // the click that ends a drag
				if (dragged) { event.preventDefault(); event.stopPropagation(); }
				dragged = false;
			}, true);
		}

		function between(from, to) {
			const query = new URL(shown).searchParams;
			for (const name of ["range", "cursor"]) query.delete(name);
			query.set("iso_timestamp_start", from);
			query.set("iso_timestamp_end", to);
			go(`${logPath}?${query}`);
		}

		dressLog();
	}
})();
