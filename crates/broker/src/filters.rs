//! Which of many topic filters match a topic: a tree over interned levels, and a bounded cache of
//! its answers. Knows nothing of who subscribed or why.

use crate::limits::{FILTER_LEVELS_MAX, TOPIC_CACHE_TOPIC_BYTES_MAX, TOPIC_CACHE_WEIGHT_MAX};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A filter with more than [`FILTER_LEVELS_MAX`] levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the filter has more than {FILTER_LEVELS_MAX} levels")
    }
}

impl std::error::Error for TooDeep {}

/// Values by topic filter, several under one filter allowed. Filters and topics are taken as
/// valid; a matching walk visits each node of the tree at most once and never recurses.
#[derive(Debug)]
pub struct FilterTree<T> {
    /// Level text -> symbol and how many nodes use it. The wildcards have fixed symbols and are
    /// not in here.
    levels: HashMap<Box<str>, Symbol, RandomState>,
    free_symbols: Vec<u32>,
    next_symbol: u32,
    /// (node, symbol of a literal level) -> child.
    edges: HashMap<(u32, u32), u32, RandomState>,
    nodes: Vec<Node<T>>,
    free_nodes: Vec<u32>,
    values: usize,
    generation: u64,
}

#[derive(Debug, Clone, Copy)]
struct Symbol {
    id: u32,
    uses: u32,
}

#[derive(Debug)]
struct Node<T> {
    parent: u32,
    /// Children below `+` and `#`; `NONE` where there is none.
    plus: u32,
    hash: u32,
    /// Literal children.
    children: u32,
    values: Vec<T>,
}

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

impl<T> Default for FilterTree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> FilterTree<T> {
    /// An empty tree.
    pub fn new() -> Self {
        Self {
            levels: HashMap::default(),
            free_symbols: Vec::new(),
            next_symbol: 0,
            edges: HashMap::default(),
            nodes: vec![Node::below(ROOT)],
            free_nodes: Vec::new(),
            values: 0,
            generation: 0,
        }
    }

    /// Number of values, over all filters.
    pub fn len(&self) -> usize {
        self.values
    }

    /// Whether no filter has a value.
    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// Rises whenever a value comes or goes; what [`MatchCache`] compares.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Puts `value` under `filter`, beside those that are there.
    pub fn insert(&mut self, filter: &str, value: T) -> Result<(), TooDeep> {
        self.update(filter, |values| values.push(value))
    }

    /// Takes the first value under `filter` that `is_it` accepts.
    pub fn remove(&mut self, filter: &str, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let node = self.find(filter)?;
        let values = &mut self.nodes[node as usize].values;
        let at = values.iter().position(is_it)?;
        let value = values.swap_remove(at);
        if values.is_empty() {
            *values = Vec::new();
        } else if values.len() * 4 < values.capacity() {
            values.shrink_to(values.len() * 2);
        }
        self.values -= 1;
        self.generation += 1;
        self.prune(node, filter);
        Some(value)
    }

    /// The values under exactly this filter; no wildcard is interpreted.
    pub fn get(&self, filter: &str) -> &[T] {
        self.find(filter)
            .map_or(&[], |node| &self.nodes[node as usize].values)
    }

    /// Lets `change` add, alter or remove the values under `filter`.
    pub fn update<R>(
        &mut self,
        filter: &str,
        change: impl FnOnce(&mut Vec<T>) -> R,
    ) -> Result<R, TooDeep> {
        if levels(filter).count() > FILTER_LEVELS_MAX {
            return Err(TooDeep);
        }
        let node = self.make(filter);
        let values = &mut self.nodes[node as usize].values;
        let before = values.len();
        let result = change(values);
        self.values = self.values - before + values.len();
        self.generation += 1;
        self.prune(node, filter);
        Ok(result)
    }

    /// Calls `found` for every value whose filter matches `topic`, in no particular order. A topic
    /// that starts with `$` is not matched by a wildcard at the first level [MQTT-4.7.2-1].
    pub fn for_each_match<'t>(&'t self, topic: &str, mut found: impl FnMut(&'t T)) {
        let _ = self.walk(topic, |values| {
            values.iter().for_each(&mut found);
            ControlFlow::Continue(())
        });
    }

    /// Whether any filter matches `topic`; stops at the first.
    pub fn any_match(&self, topic: &str) -> bool {
        self.walk(topic, |_| ControlFlow::Break(())).is_break()
    }

    /// Every filter with its values.
    pub fn for_each(&self, mut visit: impl FnMut(&str, &[T])) {
        let mut names = vec![""; self.next_symbol as usize];
        for (name, symbol) in &self.levels {
            names[symbol.id as usize] = name;
        }
        let mut below = vec![Vec::new(); self.nodes.len()];
        for (&(parent, symbol), &child) in &self.edges {
            below[parent as usize].push((names[symbol as usize], child));
        }
        for (id, node) in self.nodes.iter().enumerate() {
            if node.plus != NONE {
                below[id].push(("+", node.plus));
            }
            if node.hash != NONE {
                below[id].push(("#", node.hash));
            }
        }
        let mut open: Vec<(String, u32)> = below[ROOT as usize]
            .iter()
            .map(|&(name, child)| (name.to_owned(), child))
            .collect();
        while let Some((filter, node)) = open.pop() {
            let values = &self.nodes[node as usize].values;
            if !values.is_empty() {
                visit(&filter, values);
            }
            for &(name, child) in &below[node as usize] {
                open.push((format!("{filter}/{name}"), child));
            }
        }
    }

    /// Visits the value lists of all matching filters, none of them empty, until told to stop.
    fn walk<'t>(
        &'t self,
        topic: &str,
        mut visit: impl FnMut(&'t [T]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.values == 0 {
            return ControlFlow::Continue(());
        }
        // One level more than any filter has, so that "the topic goes on" can be seen.
        let mut symbols = [NONE; FILTER_LEVELS_MAX + 1];
        let mut depth = 0;
        for level in levels(topic).take(FILTER_LEVELS_MAX + 1) {
            symbols[depth] = self.levels.get(level).map_or(NONE, |symbol| symbol.id);
            depth += 1;
        }
        let reserved = topic.starts_with('$');
        // Each step takes one node off and puts at most two of the next level on, so the stack
        // never holds more than one node a level, and one.
        let mut stack = [(ROOT, 0u8); FILTER_LEVELS_MAX + 2];
        let mut top = 1;
        while top > 0 {
            top -= 1;
            let (id, at) = stack[top];
            let node = &self.nodes[id as usize];
            let wild = !(reserved && at == 0);
            if wild && node.hash != NONE {
                self.visit(node.hash, &mut visit)?;
            }
            let level = usize::from(at);
            if level == depth {
                self.visit(id, &mut visit)?;
                continue;
            }
            if level == FILTER_LEVELS_MAX {
                continue;
            }
            if wild && node.plus != NONE {
                stack[top] = (node.plus, at + 1);
                top += 1;
            }
            if node.children > 0
                && symbols[level] != NONE
                && let Some(&child) = self.edges.get(&(id, symbols[level]))
            {
                stack[top] = (child, at + 1);
                top += 1;
            }
        }
        ControlFlow::Continue(())
    }

    fn visit<'t>(
        &'t self,
        node: u32,
        visit: &mut impl FnMut(&'t [T]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let values = &self.nodes[node as usize].values;
        if values.is_empty() {
            ControlFlow::Continue(())
        } else {
            visit(values)
        }
    }

    fn find(&self, filter: &str) -> Option<u32> {
        let mut id = ROOT;
        for level in levels(filter) {
            let node = &self.nodes[id as usize];
            id = match level {
                "+" => node.plus,
                "#" => node.hash,
                _ => *self.edges.get(&(id, self.levels.get(level)?.id))?,
            };
            if id == NONE {
                return None;
            }
        }
        Some(id)
    }

    /// The node of `filter`, made if absent.
    fn make(&mut self, filter: &str) -> u32 {
        let mut id = ROOT;
        for level in levels(filter) {
            id = match level {
                "+" if self.nodes[id as usize].plus != NONE => self.nodes[id as usize].plus,
                "#" if self.nodes[id as usize].hash != NONE => self.nodes[id as usize].hash,
                "+" => {
                    let child = self.new_node(id);
                    self.nodes[id as usize].plus = child;
                    child
                }
                "#" => {
                    let child = self.new_node(id);
                    self.nodes[id as usize].hash = child;
                    child
                }
                _ => self.make_literal(id, level),
            };
        }
        id
    }

    fn make_literal(&mut self, parent: u32, level: &str) -> u32 {
        if let Some(symbol) = self.levels.get(level)
            && let Some(&child) = self.edges.get(&(parent, symbol.id))
        {
            return child;
        }
        let child = self.new_node(parent);
        let symbol = if let Some(symbol) = self.levels.get_mut(level) {
            symbol.uses += 1;
            symbol.id
        } else {
            let id = self.free_symbols.pop().unwrap_or_else(|| {
                self.next_symbol += 1;
                self.next_symbol - 1
            });
            self.levels.insert(level.into(), Symbol { id, uses: 1 });
            id
        };
        self.edges.insert((parent, symbol), child);
        self.nodes[parent as usize].children += 1;
        child
    }

    fn new_node(&mut self, parent: u32) -> u32 {
        if let Some(id) = self.free_nodes.pop() {
            self.nodes[id as usize] = Node::below(parent);
            return id;
        }
        let id = u32::try_from(self.nodes.len()).expect("memory ends before 2^32 nodes");
        self.nodes.push(Node::below(parent));
        id
    }

    /// Takes `node`, which `filter` leads to, and its ancestors away as long as they hold nothing.
    fn prune(&mut self, mut node: u32, filter: &str) {
        let mut rest = filter;
        while node != ROOT {
            let entry = &self.nodes[node as usize];
            let used = !entry.values.is_empty()
                || entry.children > 0
                || entry.plus != NONE
                || entry.hash != NONE;
            if used {
                return;
            }
            let parent = entry.parent;
            let (before, level) = rest.rsplit_once('/').unwrap_or(("", rest));
            match level {
                "+" => self.nodes[parent as usize].plus = NONE,
                "#" => self.nodes[parent as usize].hash = NONE,
                _ => self.drop_literal(parent, level),
            }
            self.free_nodes.push(node);
            node = parent;
            rest = before;
        }
        self.shrink();
    }

    fn drop_literal(&mut self, parent: u32, level: &str) {
        let symbol = self.levels.get_mut(level).expect("an edge uses the level");
        symbol.uses -= 1;
        let Symbol { id, uses } = *symbol;
        self.edges.remove(&(parent, id));
        self.nodes[parent as usize].children -= 1;
        if uses == 0 {
            self.levels.remove(level);
            self.free_symbols.push(id);
        }
    }

    /// Gives memory back once everything is gone, as after a storm of subscriptions.
    fn shrink(&mut self) {
        if self.values == 0 && self.nodes.len() > 1024 {
            let generation = self.generation;
            *self = Self::new();
            self.generation = generation;
        }
    }
}

impl<T> Node<T> {
    fn below(parent: u32) -> Self {
        Self {
            parent,
            plus: NONE,
            hash: NONE,
            children: 0,
            values: Vec::new(),
        }
    }
}

/// The levels of a topic or a filter; an empty one counts.
fn levels(topic: &str) -> impl Iterator<Item = &str> {
    topic.split('/')
}

/// Remembers a value for each topic, up to a weight. Half of what it holds, the longer unused, is
/// forgotten at once when it is full; all of it when the generation changes.
#[derive(Debug)]
pub struct TopicCache<V> {
    /// Values with their weights.
    young: HashMap<Box<str>, (V, usize), RandomState>,
    old: HashMap<Box<str>, (V, usize), RandomState>,
    young_weight: usize,
    weight_max: usize,
    generation: u64,
}

impl<V> TopicCache<V> {
    /// An empty cache that holds at most `weight_max` of weight.
    pub fn new(weight_max: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            young_weight: 0,
            weight_max,
            generation: 0,
        }
    }

    /// Number of topics remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.young = HashMap::default();
        self.old = HashMap::default();
        self.young_weight = 0;
    }

    /// What is remembered for `topic`, or what `make` answers, with its weight (at least one).
    /// `generation` is that of whatever `make` looks at.
    pub fn get_or_make(
        &mut self,
        topic: &str,
        generation: u64,
        make: impl FnOnce() -> (V, usize),
    ) -> V
    where
        V: Clone,
    {
        if self.generation != generation {
            self.clear();
            self.generation = generation;
        }
        if let Some((value, _)) = self.young.get(topic) {
            return value.clone();
        }
        let (value, weight) = self.old.remove(topic).unwrap_or_else(make);
        if topic.len() <= TOPIC_CACHE_TOPIC_BYTES_MAX && weight <= self.weight_max / 8 {
            if self.young_weight + weight > self.weight_max / 2 {
                self.old = std::mem::take(&mut self.young);
                self.young_weight = 0;
            }
            self.young_weight += weight;
            self.young.insert(topic.into(), (value.clone(), weight));
        }
        value
    }
}

/// Remembers which values of a [`FilterTree`] match a topic.
#[derive(Debug)]
pub struct MatchCache<T> {
    cache: TopicCache<Arc<[T]>>,
}

impl<T: Clone> Default for MatchCache<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> MatchCache<T> {
    /// An empty cache, bounded by [`TOPIC_CACHE_WEIGHT_MAX`].
    pub fn new() -> Self {
        Self {
            cache: TopicCache::new(TOPIC_CACHE_WEIGHT_MAX),
        }
    }

    /// The values of `tree` that match `topic`. A change of the tree is seen at once.
    pub fn matches(&mut self, tree: &FilterTree<T>, topic: &str) -> Arc<[T]> {
        self.cache.get_or_make(topic, tree.generation(), || {
            let mut found = Vec::new();
            tree.for_each_match(topic, |value| found.push(value.clone()));
            let weight = 1 + found.len();
            (found.into(), weight)
        })
    }

    /// Number of topics remembered.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }
}

#[cfg(test)]
mod tests;
