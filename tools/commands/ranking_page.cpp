// The page of `qfm rank -o FILE.html`.
#include <string_view>

#include "tools/cli/charts.h"
#include "tools/cli/console.h"
#include "tools/commands/ranking.h"

namespace qfm {
namespace {

constexpr std::string_view kStyle = R"(<style>
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --faint: #666; --card: #f3f3f3; --mark: #0a6bc4; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181a; --ink: #eee; --faint: #aaa; --card: #24272a; --mark: #6db3f2; }
}
body { background: var(--paper); color: var(--ink); font: 15px/1.4 system-ui, sans-serif; margin: 1rem 1.5rem 4rem; }
h2 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
.group { display: flex; flex-wrap: wrap; gap: .75rem; }
figure { margin: 0; padding: .5rem; background: var(--card); border: 3px solid transparent; border-radius: 6px; width: 220px;
  cursor: pointer; }
figure:focus { outline: 3px solid var(--ink); outline-offset: 1px; }
figure.marked { border-color: var(--mark); }
figure.marked figcaption::before { content: "✓ "; color: var(--mark); font-weight: bold; }
img { display: block; width: 220px; height: 165px; object-fit: contain; }
figcaption { overflow-wrap: anywhere; font-size: .85rem; }
.faint { color: var(--faint); }
footer { position: fixed; inset: auto 0 0 0; padding: .6rem 1.5rem; background: var(--card); }
button { font: inherit; padding: .2rem .8rem; }
</style>
)";

// Arrows: left and right to the neighbours, up and down to the nearest photo of the row above or below.
constexpr std::string_view kScript = R"(<script>
const photos = [...document.querySelectorAll('figure')], marked = new Set();
let at = 0;
const go = to => { at = Math.max(0, Math.min(photos.length - 1, to)); photos[at].focus(); };
const mark = i => {
  const on = photos[i].classList.toggle('marked');
  photos[i].setAttribute('aria-pressed', on);
  on ? marked.add(i) : marked.delete(i);
  document.getElementById('count').textContent = marked.size;
};
const across = down => {
  const own = photos[at].getBoundingClientRect();
  let best = at, least = Infinity;
  photos.forEach((photo, i) => {
    const box = photo.getBoundingClientRect(), rows = (box.top - own.top) * down;
    if (rows < own.height / 2) return;
    const far = rows * 10 + Math.abs(box.left - own.left);
    if (far < least) least = far, best = i;
  });
  return best;
};
document.addEventListener('keydown', event => {
  if (!photos.length || event.target.tagName === 'BUTTON') return;
  const keys = {ArrowRight: () => go(at + 1), ArrowLeft: () => go(at - 1), ArrowDown: () => go(across(1)),
    ArrowUp: () => go(across(-1)), ' ': () => mark(at)};
  if (keys[event.key]) event.preventDefault(), keys[event.key]();
});
photos.forEach((photo, i) => {
  photo.addEventListener('click', () => { go(i); mark(i); });
  photo.addEventListener('focus', () => at = i);
});
const list = () => [...marked].sort((a, b) => a - b).map(i => photos[i].dataset.path + '\n').join('');
document.getElementById('save').addEventListener('click', () => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([list()], {type: 'text/plain'}));
  link.download = 'marked.txt';
  link.click();
});
</script>
)";

std::string base64(const std::vector<uint8_t>& bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t three = 0;
    for (size_t k = 0; k < 3; ++k) three = three << 8 | (i + k < bytes.size() ? bytes[i + k] : 0u);
    for (size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? kDigits[three >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

// Text for a page: bytes that are not UTF-8 become U+FFFD, as in JSON.
std::string shown(const std::string& text) { return escaped(Json::parse(to_line(text)).get<std::string>()); }

std::string figure(const RankedPhoto& r) {
  const ScoredPhoto& p = r.photo;
  const std::string path = shown(p.path);
  std::string html = "<figure tabindex=\"0\" role=\"button\" aria-pressed=\"false\" data-path=\"" + path +
                     "\"><img alt=\"\" src=\"data:image/jpeg;base64," + base64(r.thumbnail) +
                     "\"><figcaption>" + format("%zu. <b>%.1f</b>", r.rank, p.score);
  if (p.interval)
    html += format(" <span class=\"faint\">%.0f to %.0f</span>", p.interval->low, p.interval->high);
  if (r.tie) html += " <span class=\"faint\">too close to the one before to call</span>";
  return html + "<br>" + path + "</figcaption></figure>\n";
}

}  // namespace

std::string ranking_page(const Json& header, const std::vector<RankedPhoto>& ranking) {
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>qfm rank</title>\n" +
      std::string(kStyle) + "</head><body>\n<h1>Photos, best first</h1>\n";
  page += "<p class=\"faint\">" +
          shown(header["model"].is_string() ? header["model"].get<std::string>() : "") +
          ". Arrow keys choose a photo, space marks it.</p>\n";
  size_t group = 0;
  for (const RankedPhoto& r : ranking) {
    if (r.group != group)
      page += (group ? "</div>\n" : "") + format("<h2>Group %zu</h2>\n<div class=\"group\">\n", r.group);
    group = r.group;
    page += figure(r);
  }
  if (group) page += "</div>\n";
  page += "<footer><b id=\"count\">0</b> marked <button id=\"save\">Save the list</button></footer>\n";
  return page + std::string(kScript) + "</body></html>\n";
}

}  // namespace qfm
