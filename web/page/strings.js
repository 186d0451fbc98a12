// What the page says, in English and Chinese. The panels bring their own rows.

const TABLE = {
  live: ['Live', '直播'],
  rooms: ['Choose a room', '选择房间'],
  watching: ['{n} watching', '{n} 人在看'],
  other_language: ['中文', 'English'],
  theme: ['Dark or light', '深色或浅色'],
  player: ['Player', '播放器'],
  pause: ['Pause (K)', '暂停 (K)'],
  play: ['Play (K)', '播放 (K)'],
  danmaku: ['Comments over the video (D)', '弹幕开关 (D)'],
  figures: ['Under the hood (E)', '技术面板 (E)'],
  settings: ['Settings (S)', '设置 (S)'],
  fullscreen: ['Full screen (F)', '全屏 (F)'],
  style: ['Name, colour and position', '昵称、颜色和位置'],
  comment: ['Your comment (C)', '你的弹幕 (C)'],
  hint: ['Say something…', '发条弹幕吧…'],
  hint_named: ['Say something as {name}…', '以 {name} 的身份发弹幕…'],
  send: ['Send', '发送'],
  sending: ['Sending…', '发送中…'],
  retry: ['Retry', '重试'],
  discard: ['Discard', '丢弃'],
  like: ['Like (L)', '点赞 (L)'],
  likes: ['{n} likes since you came', '你来之后 {n} 个赞'],
  chat: ['Chat', '聊天'],
  newer: ['{n} new ↓', '{n} 条新消息 ↓'],
  guest: ['guest', '游客'],
  streamer: ['streamer', '主播'],
  moderator: ['mod', '房管'],
  member: ['member', '会员'],
  missed: ['Some comments are missing here', '此处有弹幕未能送达'],
  quiet: ['It is quiet in here', '这里还很安静'],
  first: ['Post the first comment', '来发第一条弹幕'],
  or_curl: ['or from a terminal:', '或者在终端里:'],
  spoken: ['{n} new comments. {name}: {text}', '{n} 条新弹幕。{name}:{text}'],
  connecting: ['Connecting…', '连接中…'],
  joined: ['Connected', '已连接'],
  reconnecting: ['Reconnecting…', '重新连接中…'],
  retry_in: ['Connection lost. Trying again in {n} s', '连接已断开,{n} 秒后重试'],
  try_now: ['Try now', '立即重试'],
  closed: ['Disconnected', '已断开'],
  media_failed: ["Can't play this video", '视频无法播放'],
  media_invalid: ['The video URL must start with http:// or https://', '视频地址必须以 http:// 或 https:// 开头'],
  panel_failed: ['Could not load this. Check your connection', '无法加载,请检查网络'],
  text_empty: ['Write something first', '请先输入内容'],
  text_too_long: ['At most 200 characters', '最多 200 字'],
  rate_limited: ['You are posting too fast', '发送太频繁'],
  overloaded: ['The room is busy', '房间繁忙'],
  unavailable: ['The server is not available', '服务器暂不可用'],
  outcome_unknown: ['It may have been posted', '可能已经发出'],
  stopping: ['The server is restarting', '服务器正在重启'],
  room_closed: ['The room is closed', '房间暂停评论'],
  slow_mode: ['Slow mode', '慢速模式'],
  bad_room_id: ['This is not a valid room name', '房间名无效'],
  too_many_rooms: ['There are too many rooms', '房间数已达上限'],
  too_many_connections: ['There are too many connections', '连接数已达上限'],
  too_many_pending: ['Too many comments are being sent', '待发送的弹幕过多'],
  origin_not_allowed: ['This page may watch but not post', '此页面只能观看'],
  network: ['No connection to the server', '未连接到服务器'],
  timeout: ['No answer. It may have been posted', '没有回应,可能已经发出'],
  wait: ['{reason}. Try again in {n} s', '{reason},{n} 秒后再试'],
};

let column = 0;

/** Adds the rows of a panel. */
export function addStrings(rows) {
  Object.assign(TABLE, rows);
}

/** Switches to `en` or `zh`; anything else follows the browser. */
export function chooseLanguage(language) {
  column = /^zh/i.test(language === 'auto' ? navigator.language : language) ? 1 : 0;
  document.documentElement.lang = column ? 'zh' : 'en';
  translate(document);
}

/** The text of `key` with `{name}` filled in, or undefined. */
export function say(key, values = {}) {
  return TABLE[key]?.[column].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Fills in the texts and labels that elements name in `data-text` and `data-label`. */
export function translate(root) {
  for (const element of root.querySelectorAll('[data-text], [data-label]')) {
    const { text, label } = element.dataset;
    if (text) element.textContent = say(text);
    if (label) element.ariaLabel = say(label);
    if (label && element.localName === 'button') element.title = say(label);
  }
}

/** A number as people read it: 12K. */
export function count(n) {
  return new Intl.NumberFormat(document.documentElement.lang, { notation: 'compact' }).format(n);
}
