"use strict";
// Copy buttons, times in the reader's own time zone, and the seal on what forms say (web/forms.py says why). The pages work
// without it.

// Back and Reload ask for the page anew, not for the form that led to it.
history.replaceState(null, "", location.href);

const utf8 = new TextEncoder();

async function seal(key, fields) {
  const method = { name: "HMAC", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", utf8.encode(key), method, false, ["sign"]);
  const made = await crypto.subtle.sign("HMAC", imported, utf8.encode(JSON.stringify(fields)));
  return Array.from(new Uint8Array(made), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

for (const nonce of document.querySelectorAll("[data-key]")) {
  const [id, key] = nonce.dataset.key.split(".");
  let sealing = false;
  nonce.form.addEventListener("submit", async (event) => {
    if (nonce.value) return;
    event.preventDefault();
    if (sealing) return;
    sealing = true;
    const fields = [...new FormData(nonce.form, event.submitter)]
      .filter(([name]) => name !== nonce.name)
      .map(([name, value]) => [name, value.replace(/\r\n?/g, "\n")])
      .sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
    nonce.value = `${id}.${await seal(key, fields)}`;
    // Not at once: a seal may be ready before this event is over, and within it no form is sent.
    setTimeout(() => nonce.form.requestSubmit(event.submitter));
  });
}

for (const button of document.querySelectorAll(".jhssh-copy")) {
  button.classList.add("jhssh-works");
  button.addEventListener("click", async () => {
    const text = button.previousElementSibling.textContent;
    button.textContent = (await copied(text, button)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

// The pages are sandboxed: a browser may refuse them the clipboard, but not what the reader selected.
async function copied(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling);
    return document.execCommand("copy");
  }
}

for (const time of document.querySelectorAll("time")) {
  time.title = time.textContent;
  time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
