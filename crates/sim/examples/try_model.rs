//! Scratch.
use outrigger_sim::model::*;
use outrigger_replica::rules::*;
fn main(){
 let a:Vec<String>=std::env::args().collect();
 let n=|i:usize|->u64{a.get(i).and_then(|x|x.parse().ok()).unwrap_or(0)};
 let mut b=Bounds::default();
 let mut rules=Rules::all(); let mut steps=2_000_000; let mut begin=Begin::Serving; let mut down=0u8;
 let _=n;
 for x in &a[1..]{ let (k,v)=x.split_once('=').unwrap(); let u:u64=v.parse().unwrap_or(0); match k{
  "v"=>b.versions=u,"c"=>b.crashes=u as u8,"f"=>b.failovers=u as u8,"h"=>b.hand_overs=u as u8,"w"=>b.writes=u as u8,
  "n"=>b.cuts=u as u8,"l"=>b.lates=u as u8,"r"=>b.reports=u as u8,"k"=>b.coordinators=u as u8,"b"=>b.rollbacks=u as u8,
  "d"=>b.holds=Some(u as u8),"slow"=>b.slow=u==1,"steps"=>steps=u as usize,"cold"=>begin=Begin::Cold,"down"=>down=u as u8,
  "rule"=>{rules=Rules::without(Rule::ALL.into_iter().find(|r|format!("{r:?}")==v).unwrap())}
  _=>panic!()}}
 let f=explore(begin,down,b,rules,steps);
 println!("{} unique of {} depth {} {:.1}s {:.0}/s exhaustive {}",f.unique,f.steps,f.depth,f.seconds,f.steps as f64/f.seconds,f.exhaustive);
 println!("{:?}",f.seen.all());
 if let Some((t,p))=f.broken{println!("BROKEN {t}");for l in p{println!("  {l}")}}
}
