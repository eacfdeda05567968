//! What answers lead to: the reply, and the next state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost_types::Reply;

use super::state::{About, State, Talk};
use super::{Answer, CloseReason, EMPTY, Session, greeting, words};
use crate::data::Decoder;
use crate::sasl::{Ending, Exchange};

impl Session {
    pub(super) fn on_answer(&mut self, now: Instant, about: About, answer: Answer) {
        if let Answer::Close(reply) = answer {
            return self.turn_out(&about, reply);
        }
        match about {
            About::Connect => self.on_connect_answer(now, answer, self.policy.greeting_delay),
            // Whoever speaks for others has been let in already.
            About::Proxied => self.on_connect_answer(now, answer, Duration::ZERO),
            About::Helo { esmtp } => self.on_helo_answer(now, esmtp, answer),
            About::Auth(ending) => self.on_auth_answer(answer, ending),
            About::Keys(exchange) => self.on_keys_answer(exchange, answer),
            About::Round(exchange) => match answer {
                Answer::Challenge(challenge) => self.challenge(&challenge, Talk::Exchange(exchange, false)),
                answer => self.on_auth_answer(answer, Ending::default()),
            },
            About::Message => self.on_message_answer(now, answer),
            About::Mail => match decided(answer, self.sender_ok()) {
                Ok(yes) => self.say(&yes),
                Err(no) => {
                    self.void();
                    self.refuse(&no);
                }
            },
            About::Rcpt(recipient) => match decided(answer, words::RECIPIENT_OK) {
                Ok(yes) => {
                    Arc::make_mut(&mut self.envelope).recipients.push(recipient);
                    self.say(&yes);
                }
                Err(no) => {
                    self.transaction.as_mut().expect("asked within a transaction").refused_recipients = true;
                    self.refuse(&no);
                }
            },
            About::Data => match decided(answer, words::GO_AHEAD) {
                Ok(_) => {
                    self.say(&words::GO_AHEAD);
                    self.state = State::Data(Decoder::default());
                    self.arm(now);
                }
                Err(no) => self.refuse(&no),
            },
            About::Bdat(chunk) => match decided(answer, words::OK) {
                Ok(_) => self.begin_chunk(now, chunk),
                Err(no) => self.drop_chunk(now, chunk, no),
            },
        }
    }

    /// The reply, then the end. The client is not told of more than it asked about: over LMTP a message has a reply per recipient.
    fn turn_out(&mut self, about: &About, reply: Reply) {
        match about {
            About::Connect | About::Proxied => self.say(&greeting::turned_away(reply)),
            About::Message if self.policy.is_lmtp() => {
                (0..self.envelope.recipients.len()).for_each(|_| self.say(&reply))
            }
            _ => self.say(&reply),
        }
        if matches!(about, About::Message) {
            self.transaction = None;
        }
        self.close(CloseReason::Refused);
    }

    fn sender_ok(&self) -> Reply {
        let slowed = self.transaction.as_ref().is_some_and(|transaction| transaction.slowed);
        if slowed { words::SENDER_SLOWED } else { words::SENDER_OK }
    }

    fn on_connect_answer(&mut self, now: Instant, answer: Answer, delay: Duration) {
        match decided(answer, words::OK) {
            Err(no) => self.close_with(&greeting::turned_away(no), CloseReason::Refused),
            Ok(_) => {
                let delay = if self.facts.trusted { Duration::ZERO } else { delay };
                self.state = State::Waiting(now + delay);
                if delay.is_zero() && !self.input_left {
                    self.greet(now);
                } else {
                    self.arm(now);
                }
            }
        }
    }

    fn on_helo_answer(&mut self, now: Instant, esmtp: bool, answer: Answer) {
        match decided(answer, words::OK) {
            Ok(_) if esmtp => {
                let hello = greeting::hello(&self.policy, &self.facts, self.offered(), self.wall(now));
                self.say(&hello);
            }
            Ok(_) => self.say(&Reply::plain(250, self.policy.hostname.to_string())),
            Err(no) => {
                let facts = Arc::make_mut(&mut self.facts);
                facts.helo = "".into();
                facts.esmtp = false;
                self.refuse(&no);
            }
        }
    }

    fn on_keys_answer(&mut self, mut exchange: Box<dyn Exchange>, answer: Answer) {
        match answer {
            Answer::Keys(keys, nonce) => {
                let step = exchange.handle_keys(keys, nonce);
                self.on_step(exchange, false, step);
            }
            Answer::Reply(no) if !no.is_positive() => self.refuse(&no),
            other => panic!("{other:?} holds no keys"),
        }
    }

    /// The verdict, after the mechanism's last words if it has any.
    fn on_auth_answer(&mut self, answer: Answer, ending: Ending) {
        let (verdict, last) = match answer {
            Answer::Granted(user) => (Ok(user), ending.granted),
            Answer::Denied => (Err(words::AUTH_FAILED), ending.denied),
            Answer::Reply(no) if !no.is_positive() => (Err(no), None),
            other => panic!("{other:?} does not say who has logged in"),
        };
        match last {
            Some(last) => self.challenge(&last, Talk::Ending(verdict)),
            None => self.end_sasl(verdict),
        }
    }

    pub(super) fn end_sasl(&mut self, verdict: Result<Arc<str>, Reply>) {
        let no = match verdict {
            Ok(user) => {
                Arc::make_mut(&mut self.facts).user = Some(user);
                return self.say(&words::LOGGED_IN);
            }
            Err(no) => no,
        };
        self.failed_logins += u32::from(no.is_permanent());
        self.refuse(&no);
        if self.failed_logins >= self.policy.auth_failures_max && !matches!(self.state, State::Closed) {
            self.close_with(&words::TOO_MANY_LOGINS, CloseReason::Limit);
        }
    }

    fn on_message_answer(&mut self, now: Instant, answer: Answer) {
        // It was answered, so whoever keeps the body knows that it is over.
        self.transaction = None;
        match answer {
            Answer::Each(replies) => {
                assert!(self.policy.is_lmtp(), "a reply per recipient belongs to LMTP");
                assert_eq!(replies.len(), self.envelope.recipients.len(), "one reply for each recipient");
                self.answer_message(now, replies);
            }
            answer => {
                let reply = decided(answer, words::MESSAGE_OK).unwrap_or_else(|no| no);
                let count = if self.policy.is_lmtp() { self.envelope.recipients.len() } else { 1 };
                self.answer_message(now, vec![reply; count]);
            }
        }
    }

    /// Answers the end of the body.
    pub(super) fn answer_message(&mut self, now: Instant, replies: Vec<Reply>) {
        self.envelope = EMPTY.clone();
        self.forwarded = None;
        if replies.iter().any(Reply::is_positive) {
            self.messages += 1;
            self.errors = 0;
            self.paused = 0;
            self.idle = 0;
        }
        self.arm(now);
        let (last, front) = replies.split_last().expect("at least one reply");
        front.iter().for_each(|reply| self.say(reply));
        if last.is_positive() { self.say(last) } else { self.refuse(last) }
    }
}

/// Parts yes (with these words or `default`) from no.
fn decided(answer: Answer, default: Reply) -> Result<Reply, Reply> {
    match answer {
        Answer::Yes => Ok(default),
        Answer::Reply(reply) if reply.is_positive() => Ok(reply),
        Answer::Reply(reply) => Err(reply),
        other => panic!("{other:?} is no answer to a question of yes or no"),
    }
}
